"""What `huggingface_hub` raises, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from core.files.hub.ids import FORMS, HubError, HubId, Kind
from core.files.shards import SPLITS


@contextmanager
def explained(wanted: HubId, kind: Kind) -> Iterator[None]:
    """What `huggingface_hub` raises, as a HubError that says what to do."""
    import httpx
    from huggingface_hub import constants, errors

    name = f"{wanted}: "
    noun = "model" if kind == "model" else "data set"
    try:
        yield
    except errors.GatedRepoError:
        page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{wanted.repo}"
        raise HubError(
            f"{name}a gated {noun}: ask for access at {page}, then log in (`hf auth login`, or HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        hint = (
            f" (its split is named as {wanted.repo}:{wanted.revision})" if wanted.revision in SPLITS else ""
        )
        raise HubError(
            f"{name}no revision {wanted.revision!r} of this {noun}; expected a branch, a tag or a commit{hint}"
        ) from None
    except (
        errors.OfflineModeIsEnabled,
        errors.RevisionResolutionError,
        errors.LocalEntryNotFoundError,
    ) as error:
        raise HubError(f"{name}{_unreachable(error)}") from None
    except errors.HfHubHTTPError as error:
        raise HubError(f"{name}{_refused(error, kind)}") from None
    except httpx.HTTPError as error:
        raise HubError(
            f"{name}the connection to {constants.ENDPOINT} failed ({_short(error)}); the same command goes on with the"
            " files that are still missing"
        ) from None
    except OSError as error:  # the cache cannot be written, or a file came with another size than announced
        raise HubError(f"{name}{_short(error)}") from None


def _refused(error: Any, kind: Kind) -> str:
    from huggingface_hub import constants

    status, said = error.response.status_code, error.server_message or ""
    if "Invalid credentials" in said:
        return f"{constants.ENDPOINT} does not know the token of this machine: log in again (`hf auth login`, or HF_TOKEN)"
    if status in (401, 404):  # strangers are not told what does not exist from what is private
        noun = "model" if kind == "model" else "data set"
        return (
            f"no such path here, and no {noun} of that name at {constants.ENDPOINT}; expected {FORMS[kind]} (a private"
            " one needs `hf auth login`, or HF_TOKEN)"
        )
    allowed = (
        ", no access with the token of this machine (`hf auth login`, or HF_TOKEN)" if status == 403 else ""
    )
    return f"{constants.ENDPOINT} answered with status {status}{allowed}"


def _unreachable(error: Exception) -> str:
    from huggingface_hub import constants

    where = f"no whole copy of it in the cache ({constants.HF_HUB_CACHE})"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, and there is {where}; run the command once without HF_HUB_OFFLINE"
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
    return f"the Hub at {constants.ENDPOINT} cannot be reached ({_short(causes[-1])}), and there is {where}"


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
