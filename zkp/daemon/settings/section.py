"""Base of every configuration section: frozen, typed, validated at construction, without unknown keys."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from zkp.daemon.settings.errors import SettingFault

RULE = "rule"


class Section(BaseModel):
    """A section of a configuration. Every field has a `description` and, where useful, `examples`.

    Rules on several keys belong in `rules`; they are checked at construction.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def rules(self) -> Iterator[SettingFault]:
        """Yield the faults of this section as a whole. Pure: reads no file."""
        return iter(())

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_keys(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        """Drop known keys without a value, so that they count as absent."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        errors = [
            InitErrorDetails(type=invalid(fault.what, fault.hint), loc=fault.location, input=None)
            for fault in self.rules()
        ]
        if errors:
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self


def invalid(what: str, hint: str) -> PydanticCustomError:
    """Return the error for a validator to raise: what is wrong with the value, and what to do."""
    return PydanticCustomError(RULE, "{what}; {hint}", {"what": what, "hint": hint})
