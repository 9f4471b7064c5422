"""Verification of the anchors themselves: their numbers, their chain, their roots and their signatures."""

from contracts.anchors import GENESIS, AccessAnchor, Anchor, root
from contracts.proof import Code, Finding, Findings, Keys, Verdict


class AnchorCheck[A: (Anchor, AccessAnchor)]:
    """Give it anchors of one chain by `add`, in the order of their numbers, then call `finish`."""

    def __init__(self, keys: Keys, *, first: int = 1) -> None:
        """`first`: the number that the first anchor should have; what it continues is only known of number 1."""
        self.findings = Findings()
        self.anchors = 0
        self.head: A | None = None
        self._first = first
        self._keys = keys

    def add(self, anchor: A) -> None:
        """The next anchor; an exact repetition of the one before changes nothing."""
        head = self.head
        if head is not None and anchor.number == head.number:
            if anchor != head:
                self._find(Code.ALTERED_ANCHOR, anchor.number, f"there are different anchors with number {anchor.number}")
            return
        self.anchors += 1
        number = head.number if head else self._first - 1
        previous = head.hash() if head else GENESIS if self._first == 1 else anchor.previous
        if anchor.number > number + 1:
            self._missing(number + 1, anchor.number - 1)
        elif anchor.previous != previous:
            message = f"anchor {anchor.number} does not continue anchor {number} as it is: one of them was altered"
            self._find(Code.ALTERED_ANCHOR, anchor.number, message)
        for finding in check_itself(anchor, self._keys):
            self.findings.add(finding)
        self.head = anchor

    def finish(self, newest: A | None) -> Findings:
        """Everything that was found. `newest`: the newest anchor of the chain's stream that `audit` has acknowledged."""
        number = self.head.number if self.head else self._first - 1
        if newest and newest.number > number:
            self._missing(number + 1, newest.number)
        elif newest and self.head and newest.number == number and newest.hash() != self.head.hash():
            self._find(Code.ALTERED_ANCHOR, number, f"anchor {number} is not what the stream has")
        return self.findings

    def _missing(self, first: int, last: int) -> None:
        what = f"anchor {first} is" if first == last else f"anchors {first} to {last} are"
        self._find(Code.MISSING_ANCHOR, first, f"{what} missing")

    def _find(self, code: Code, anchor: int, message: str) -> None:
        self.findings.add(Finding(code, message, anchor=anchor))


def check_itself(anchor: Anchor | AccessAnchor, keys: Keys) -> list[Finding]:
    """What is wrong with an anchor by itself: its leaves do not give its root, or its signature is not good."""
    found = []
    number = anchor.number
    if root([leaf.hash() for leaf in anchor.leaves]) != anchor.root:
        message = f"the leaves of anchor {number} do not give its root: some were altered, removed or added"
        found.append(Finding(Code.ALTERED_ANCHOR, message, anchor=number))
    if not anchor.key_id and not anchor.signature:
        is_expected = keys.since is not None and keys.since.timestamp() * 1_000_000 <= anchor.at
        found.append(Finding(Code.UNSIGNED, f"anchor {number} is not signed", anchor=number, is_notice=not is_expected))
        return found
    match keys.verdict(anchor.key_id, anchor.statement(), anchor.signature):
        case Verdict.UNKNOWN_KEY:
            message = f"anchor {number} is signed with a key that is not known: {anchor.key_id[:80]!r}"
            found.append(Finding(Code.UNKNOWN_KEY, message, anchor=number))
        case Verdict.BAD:
            message = f"the signature of anchor {number} with key {anchor.key_id} is not of the anchor as it is"
            found.append(Finding(Code.BAD_SIGNATURE, message, anchor=number))
        case Verdict.GOOD:
            pass
    return found
