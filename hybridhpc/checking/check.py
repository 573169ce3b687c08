"""Everything that is looked at, in a fixed order. A look that fails is itself a finding, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hybridhpc import probe
from hybridhpc.checking.finding import Finding, Findings, fault, of_problem
from hybridhpc.checking.ledger import look_at_ledger
from hybridhpc.checking.person import look_at_environment, look_at_folders, look_at_installation, look_at_settings
from hybridhpc.checking.site import ANSWER_LOOKS, LOOKS, look_at_silence, look_at_way
from hybridhpc.checking.site_files import look_at_site_files
from hybridhpc.client import Client
from hybridhpc.errors import HpcError, ProblemsError
from hybridhpc.sites.site import Site
from hybridhpc.sites.snapshot import Silence

_ELSEWHERE = "set HPC_CONFIG_DIR and HPC_STATE_DIR to directories of your own"
PERSONAL = (
    look_at_installation,
    look_at_environment,
    look_at_folders,
    look_at_ledger,
    look_at_site_files,
    look_at_settings,
)


def check(client: Client) -> list[Finding]:
    """Look at everything and return all findings. Nothing is changed. Raises nothing, except with HPC_DEBUG set."""
    found: list[Finding] = []
    for look in PERSONAL:
        _add(found, client, _subject(look), partial(look, client))
    return found + _sites(client, _usable(client))


def _usable(client: Client) -> tuple[Site, ...]:
    """Return the sites that can be asked. A folder or file that cannot be read has its finding already."""
    try:
        return client.usable_sites
    except HpcError:
        return ()


def _sites(client: Client, sites: Sequence[Site]) -> list[Finding]:
    """Ask all sites at once that can be asked, and look at each."""
    ways: dict[str, list[Finding]] = {site.name: [] for site in sites}
    for site in sites:
        _add(ways[site.name], client, site.name, partial(look_at_way, client, site))
    answers = probe.survey([site for site in sites if not ways[site.name]], client.env, client.clock)
    found: list[Finding] = []
    for site in sites:
        found += ways[site.name]
        looks = [partial(look, client, site) for look in LOOKS]
        answer = answers.get(site.name)
        if isinstance(answer, Silence):
            looks.append(partial(look_at_silence, client, site, answer))
        elif answer is not None:
            looks += [partial(look, client, site, answer) for look in ANSWER_LOOKS]
        for each in looks:
            _add(found, client, site.name, each)
    return found


def _subject(look: Callable[[Client], Findings]) -> str:
    return look.__name__.removeprefix("look_at_").replace("_", " ")


def _add(found: list[Finding], client: Client, where: str, look: Callable[[], Findings]) -> None:
    """Add what a look finds, as far as it comes."""
    try:
        found.extend(look())
    except ProblemsError as error:
        found.extend(map(of_problem, error.problems))
    except HpcError as error:
        found.append(fault(where, error.message, error.hint or "mend this first, then check again"))
    except OSError as error:
        what = f"could not be looked at: {error.strerror or error}"
        found.append(fault(error.filename or where, what, f"get the right to read it, or {_ELSEWHERE}"))
    except Exception as error:
        if "HPC_DEBUG" in client.env:
            raise
        what = f"could not be looked at: {type(error).__name__}: {error}"
        found.append(fault(where, what, "HPC_DEBUG=1 hpc check shows where; please report it"))
