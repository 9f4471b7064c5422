set positional-arguments

# Lists every task.
default:
    @just --list --unsorted

# Makes .venv as the lock says; does nothing when it is so already.
setup:
    #!/bin/sh
    set -eu
    wanted="$(cat requirements.lock pyproject.toml .python-version | sha256sum)"
    [ "$(cat .venv/installed 2>/dev/null || true)" = "$wanted" ] && exit 0
    [ -x .venv/bin/python ] || uv venv --quiet .venv || uv venv --quiet --no-config --python '>=3.12' .venv
    uv pip sync --quiet --require-hashes requirements.lock
    uv pip install --quiet --no-deps --no-build-isolation --editable .
    echo "$wanted" >.venv/installed

# Starts the whole system on this machine: NATS, ClickHouse, the three services and a demo machine. Ctrl-C stops it.
up *args: setup
    @exec vsay up "$@"

# Installs the Debian packages that tests need, where it may; elsewhere tests say what they miss and are skipped.
test-packages:
    #!/bin/sh
    missing=""
    for package in $(grep -v '^#' tests/debian-packages.txt); do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -z "$missing" ] && exit 0
    if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo"; else
        echo "not root, so these are not installed and their tests are skipped:$missing"; exit 0; fi
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get update -qq && $as_root apt-get install -qq -y --no-install-recommends $missing >/dev/null \
        || echo "could not install, their tests are skipped:$missing"

# Format, lint, types, imports, and whether the generated documents are up to date.
check: setup
    ruff format --check .
    ruff check .
    mypy
    lint-imports
    python -m deploy.documents --check

# Everything that must hold: the checks, then every test, in three processes: most of them wait most of the time.
test *args: setup test-packages check
    #!/bin/sh
    [ "$#" -gt 0 ] || set -- --numprocesses 3 --dist loadfile
    exec pytest "$@"

# Runs checkov over every overlay, with the reasoned exceptions of k8s/checkov.yaml. Not part of `test`: it installs 300 MB.
check-k8s: setup
    #!/bin/sh
    set -eu
    rendered="$(mktemp -d)"
    trap 'rm -rf "$rendered"' EXIT
    for overlay in k8s/overlays/*/; do kubectl kustomize "$overlay" >"$rendered/$(basename "$overlay").yaml"; done
    uv tool run --quiet --from 'checkov==3.3.30' checkov --directory "$rendered" --config-file k8s/checkov.yaml

# Formats the code and mends what ruff can mend.
format: setup
    ruff format .
    ruff check --fix .

# Writes the generated documents: docs/settings.md, docs/openapi.json, docs/terminal-protocol.schema.json, k8s/base/settings.
documents: setup
    python -m deploy.documents

# Measures; see benchmarks/README.md.
bench name *args: setup
    @shift; python -m "benchmarks.{{name}}" "$@"

# Builds the images of the services, and of what tests run beside them; see docs/containers.md.
images: setup
    deploy/containers/make-images

# Runs the integration tests against containers of these images, and the compose stack; skipped where there is no Docker engine.
test-containers *args: setup
    #!/bin/sh
    set -eu
    if ! reason="$(docker version 2>&1 >/dev/null)"; then
        echo "skipped: tests in containers need a Docker engine, and there is none here: $reason"
        exit 0
    fi
    deploy/containers/make-images
    set -a
    . build/images.env
    [ "$VSAY_IMAGE_CLICKHOUSE_KIND" = server ] || echo "the embedded engine in a container stands in for the ClickHouse server"
    # The reaper's image comes from a registry too. The stack of `just up` and its parts are about processes of this machine, and so is a worker's pod.
    [ "$VSAY_IMAGE_CLICKHOUSE_KIND" = server ] || export TESTCONTAINERS_RYUK_DISABLED=true
    VSAY_TEST_CONTAINERS=1 pytest --timeout 600 --ignore-glob '*/test_stack.py' --ignore-glob '*/test_supervisor.py' \
        --ignore-glob '*/test_demo_machine.py' --ignore-glob '*/test_deletion_cost.py' tests/containers tests/integration "$@"

# `docker compose` with the whole system, and what it mounts made first: `just compose up -d`; see docs/containers.md.
compose *args: setup
    python -m deploy.compose "$@"

# Writes build/sbom/SERVICE.cdx.json (CycloneDX) for each service: what its image installs above its base, with licences.
sbom: setup
    #!/bin/sh
    set -eu
    mkdir -p build/sbom
    for service in session-api ssh-worker audit; do
        uv venv --quiet --clear "build/sbom/$service"
        uv pip sync --quiet --python "build/sbom/$service" --require-hashes "deploy/requirements/$service.txt"
        cyclonedx-py environment --output-reproducible --mc-type application --pyproject pyproject.toml --validate \
            --output-file "build/sbom/$service.cdx.json" "build/sbom/$service"
        rm -rf "build/sbom/$service"
        echo "build/sbom/$service.cdx.json"
    done

# Makes the lock anew from pyproject.toml, and from it what each image installs; `just lock --upgrade` takes newer versions.
lock *args:
    #!/bin/sh
    set -eu
    compile="uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.12"
    $compile --all-extras --group stack --group dev pyproject.toml --output-file requirements.lock "$@"
    image() { name="$1"; shift; $compile --constraint requirements.lock "$@" pyproject.toml --output-file "deploy/requirements/$name.txt"; }
    for service in session-api ssh-worker audit; do image "$service" --extra "$service"; done
    image embedded-clickhouse --extra session-api --group stack
    just setup
