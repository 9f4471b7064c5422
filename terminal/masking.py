"""Leaves secrets that were typed visibly out of a command's text.

Named token formats (cloud keys, tokens of GitHub, GitLab, Slack, Stripe, npm, PyPI …) are those of the library detect-secrets;
what a command line says about itself (`--password x`, `PGPASSWORD=x`, `Authorization: Bearer x`) are the rules below.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from inspect import isclass
from typing import Any, Final

MASKED: Final = "[masked]"
"""What stands in a command in place of a secret."""

TOKEN_DETECTORS: Final = (
    *("artifactory", "aws", "azure_storage_key", "discord", "github_token", "gitlab_token", "jwt", "mailchimp", "npm", "openai"),
    *("pypi_token", "sendgrid", "slack", "square_oauth", "stripe", "telegram_token", "twilio"),
)
"""Modules of `detect_secrets.plugins`: those that know a format, not those that guess by entropy or by the word before."""

_WORDS: Final = (
    r"(?:password|passwd|passphrase|passcode|pass|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?)"
)
_NOT_ITSELF: Final = r"(?![-_](?:file|stdin|path|env|type|command|store|policy|length|prompt|from|id)\b)"
_VALUE: Final = r"""(?P<secret>"(?!\$)[^"]+"|'[^']+'|(?![-$"'\s])[^\s"'&|;<>()]+)"""
_ELSEWHERE: Final = r"[^|;&\n]{0,200}?\s"

RULES: Final = (
    rf"(?<![\w-])--?(?:[a-z0-9]+[-_]){{0,4}}{_WORDS}(?:[-_][a-z0-9]+){{0,2}}{_NOT_ITSELF}(?<!-stdin)(?<!-file)(?:=|\s+){_VALUE}",
    rf"(?<![\w-])(?:[a-z0-9]{{1,40}}_){{0,6}}[a-z0-9]{{0,40}}{_WORDS}(?:_(?!file|path|id)[a-z0-9]{{1,40}}){{0,4}}=(?!=){_VALUE}",
    r"\b(?:proxy-)?authorization\s*[:=]\s*(?:(?:basic|bearer|token|digest|negotiate|apikey)\s+)?(?P<secret>(?!(?:basic|bearer|token|digest|negotiate|apikey)\s)[^\s'\"$][^\s'\"]*)",
    r"\bbearer\s+(?P<secret>[\w.~+/=-]{8,})",
    r"\bx-[a-z-]{0,40}(?:key|token|secret|auth)[a-z-]{0,40}\s*:\s*(?P<secret>[^\s'\"$][^\s'\"]*)",
    r"\bcookie\s*:\s*(?P<secret>[^'\"\n]+)",
    rf"[\"'][\w-]{{0,40}}{_WORDS}[\w-]{{0,40}}[\"']\s*:\s*[\"'](?P<secret>[^\"']+)[\"']",
    r"://[^\s/:@'\"]{0,200}:(?P<secret>(?!\$)[^\s/@'\"]{1,500})@",
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?P<secret>.*?)(?=-----END|\Z)",
    rf"\bsshpass\s+(?:-[a-z]\s+)*-p\s*{_VALUE}",
    rf"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b{_ELSEWHERE}-p{_VALUE}",
    rf"\b(?:docker|podman|helm|oras|crane)\b[^|;&\n]{{0,100}}?\blogin\b{_ELSEWHERE}-p\s*{_VALUE}",
    rf"\bredis-cli\b{_ELSEWHERE}-a\s*{_VALUE}",
    rf"\b(?:ldapsearch|ldapmodify|ldapadd|ldappasswd)\b{_ELSEWHERE}-w\s*{_VALUE}",
    rf"\b(?:curl|wget|http)\b{_ELSEWHERE}(?:-u|--user|-a)[\s=]*[\"']?[^\s:\"'$]{{1,200}}:(?P<secret>[^\s\"'$][^\s\"']*)",
    r"\bhtpasswd\b[^|;&\n]{0,20}?-[a-zA-Z]*b[a-zA-Z]*\s+\S{1,200}\s+\S{1,200}\s+(?P<secret>\S+)",
    r"\bpass:(?P<secret>(?!\$)[^\s'\"]+)",
    r"\b(?:identified\s+by|password)\s+(?P<secret>'[^']+'|\"[^\"]+\")",
    r"\b(?:echo|printf)\s+(?:-\w+\s+)?(?P<secret>(?!\$)[^|;&\n]{1,200}?)\s*\|\s*(?:sudo\s+(?:-\w+\s+)*-S|sudo\s+chpasswd|su\b|chpasswd|passwd)",
)
"""Regular expressions, upper and lower case alike. The group `secret`, or without it the whole match, is left out."""


class Masking:
    """Call it with a command's text. `more`: further rules, as those above; without `with_rules` only they count."""

    def __init__(self, more: Sequence[str] = (), *, with_rules: bool = True) -> None:
        """Raises `re.error` for a rule that is no regular expression."""
        own = [re.compile(rule, re.IGNORECASE | re.DOTALL) for rule in more]
        self._rules = [*(_rules() if with_rules else ()), *own]

    def __call__(self, text: str) -> str:
        """`text` with `MASKED` in place of every secret that a rule finds."""
        for rule in self._rules:
            text = rule.sub(_without_secret, text)
        return text


@cache
def _rules() -> tuple[re.Pattern[str], ...]:
    """The rules above, and those of detect-secrets, which takes half a second to load and is needed only here."""
    rules = [re.compile(rule, re.IGNORECASE | re.DOTALL) for rule in RULES]
    base: Any = import_module("detect_secrets.plugins.base").RegexBasedDetector
    for name in TOKEN_DETECTORS:
        module: Any = import_module(f"detect_secrets.plugins.{name}")
        kinds: list[Any] = [kind for kind in vars(module).values() if isclass(kind)]
        for kind in kinds:
            if issubclass(kind, base) and kind.__module__ == module.__name__:
                rules += kind.denylist
    return tuple(rules)


def _without_secret(found: re.Match[str]) -> str:
    name = "secret" if "secret" in found.re.groupindex else 0
    start, end = (place - found.start() for place in found.span(name))
    whole = found[0]
    secret = whole[start:end]
    if secret == MASKED:
        return whole
    quote = secret[0] if len(secret) > 1 and secret[0] == secret[-1] and secret[0] in "\"'" else ""
    return f"{whole[:start]}{quote}{MASKED}{quote}{whole[end:]}"
