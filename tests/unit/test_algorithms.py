"""What is spoken with machines."""

import asyncssh
import pytest
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_public_key_algs

from contracts.directory import LegacyAlgorithm, Machine
from services.ssh_worker.ssh.algorithms import Algorithms, kind_of, of_host_keys, spoken_with

KNOWN = {
    "key_exchanges": get_kex_algs(),
    "ciphers": get_encryption_algs(),
    "macs": get_mac_algs(),
    "signatures": get_public_key_algs(),
}


def machine(*listed: LegacyAlgorithm) -> Machine:
    return Machine("mch_1", "m", "org_a", "h", "l", "c", legacy_algorithms=listed)


def test_nothing_weak_is_spoken_by_default() -> None:
    spoken = spoken_with(machine())
    everything = {name for field in spoken.__struct_fields__ for name in getattr(spoken, field)}
    assert spoken == Algorithms()
    assert not everything & {algorithm.value for algorithm in LegacyAlgorithm}


@pytest.mark.parametrize("algorithm", list(LegacyAlgorithm))
def test_what_a_machine_lists_is_spoken_with_it_and_comes_last(algorithm: LegacyAlgorithm) -> None:
    spoken = getattr(spoken_with(machine(algorithm)), kind_of(algorithm))
    assert spoken[-1] == algorithm
    assert algorithm.value.encode() in KNOWN[kind_of(algorithm)]


@pytest.mark.parametrize("kind", list(KNOWN))
def test_every_algorithm_exists(kind: str) -> None:
    assert {name.encode() for name in getattr(Algorithms(), kind)} <= set(KNOWN[kind])


def test_an_rsa_host_key_is_not_verified_with_sha1_unless_it_is_listed() -> None:
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    assert of_host_keys([key], spoken_with(machine())) == ["rsa-sha2-256", "rsa-sha2-512"]
    assert "ssh-rsa" in of_host_keys([key], spoken_with(machine(LegacyAlgorithm.SIGNATURE_RSA_SHA1)))
