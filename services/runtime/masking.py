"""What leaves secrets out of commands' texts, as the settings say."""

import re
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from services.runtime.settings import SettingsError
from terminal.masking import Masking


class MaskRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The TOML file of VSAY_MASK_RULES_FILE. `rules` are regular expressions; their group `secret`, else all, is masked."""

    rules: tuple[str, ...] = ()
    built_in: bool = True


@cache
def load(file: str) -> Masking:
    """The masking that `file` describes, or the built-in one without a file. Raises `SettingsError`."""
    if not file:
        return Masking()
    try:
        wanted = msgspec.toml.decode(Path(file).read_bytes(), type=MaskRules)
        return Masking(wanted.rules, with_rules=wanted.built_in)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise SettingsError(f"VSAY_MASK_RULES_FILE: {error}") from error
    except re.error as error:
        raise SettingsError(f"VSAY_MASK_RULES_FILE: {error.pattern!r} is no regular expression: {error}") from error
