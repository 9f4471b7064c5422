"""The files of the schema."""

from services.audit.clickhouse import migrations


def test_every_file_of_the_schema_has_a_number_of_its_own() -> None:
    numbers = [migration.number for migration in migrations()]
    assert len(set(numbers)) == len(numbers)
    assert numbers == sorted(numbers)
