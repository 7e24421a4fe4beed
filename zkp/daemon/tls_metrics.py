"""TLS metrics of a daemon: expiry, reloads, and refusals by reason."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pki.x509.serials import format_serial
from zkp.daemon.certificates import Certificates, seconds_left


class TlsMetrics(Collector):
    """Collector that reads the TLS material at each scrape."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the metrics depend on the files."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics with their present values."""
        material = self._certificates.material
        expiry = GaugeMetricFamily(
            "zkp_certificate_expiry_seconds",
            "Seconds until a certificate in use expires; kind: leaf, issuer or root. Renew it before 0.",
            labels=["kind", "serial"],
        )
        for loaded in self._certificates.loaded:
            expiry.add_metric([loaded.kind, loaded.serial], seconds_left(loaded))
        yield expiry
        lists = GaugeMetricFamily(
            "zkp_crl_expiry_seconds",
            "Seconds until a revocation list in use expires; serial: of the CA that signed it. At 0 everybody is "
            "refused: sign one before.",
            labels=["serial"],
        )
        for serial, seconds in material.crl_seconds_to_expiry().items():
            lists.add_metric([format_serial(serial)], seconds)
        yield lists
        yield GaugeMetricFamily(
            "zkp_revoked_certificates",
            "Certificates that this process refuses because they were revoked.",
            float(len(material.revoked_serials())),
        )
        yield GaugeMetricFamily(
            "zkp_tls_last_reload_successful",
            "0: the changed files cannot be used, and the previous ones stay in use until they expire. See the log.",
            0.0 if self._certificates.refused else 1.0,
        )
        yield from self._counts()

    def _counts(self) -> Iterable[Metric]:
        statistics = self._certificates.material.statistics
        yield CounterMetricFamily(
            "zkp_tls_reloads", "Reloads that brought new certificates, roots or lists.", statistics.reloads
        )
        yield CounterMetricFamily(
            "zkp_tls_reload_failures", "Reloads that were refused; the old ones stayed.", statistics.reload_failures
        )
        refused = CounterMetricFamily(
            "zkp_tls_refused",
            "Handshakes, calls and connections refused for what the peer showed, by reason.",
            labels=["reason"],
        )
        for reason, count in statistics.refused.items():
            refused.add_metric([str(reason)], count)
        yield refused
