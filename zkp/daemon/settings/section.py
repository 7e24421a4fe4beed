"""The base of every configuration section: frozen, typed, validated at construction, unknown keys refused."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from zkp.daemon.settings.errors import SettingFault

RULE = "rule"


class Section(BaseModel):
    """A section of a configuration. Give each field a `description` and, where it helps, `examples`.

    Rules that span several keys go into `rules`; they are checked when the section is made.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def rules(self) -> Iterator[SettingFault]:
        """What is wrong with this section as a whole. Pure: no file is looked at here."""
        return iter(())

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        """A known key without a value counts as not given."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}

    @model_validator(mode="after")
    def _obeys_its_rules(self) -> Self:
        errors = [
            InitErrorDetails(type=broken(fault.what, fault.cure), loc=fault.location, input=None)
            for fault in self.rules()
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self


def broken(what: str, cure: str) -> PydanticCustomError:
    """The error for a validator to raise: what is wrong with the value, and the cure."""
    return PydanticCustomError(RULE, "{what}; {cure}", {"what": what, "cure": cure})
