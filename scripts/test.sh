#!/usr/bin/env bash
# THE test command: sets up a bare Debian 12, then checks, builds and tests the collection.
#
#   scripts/test.sh            everything; the last line is pytest's own
#   scripts/test.sh setup      only what the other stages, or a developer, need: packages, libvirt, .cache/venv
#   scripts/test.sh STAGE ...  only these stages; pytest, when it is one of them, ends the run
#
# A stage is a function stage_NAME; the first one that fails ends the run.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

CHECKS=(guests sanity importer oldest_core oldest_python ansible_lint docs site mypy changelog reuse ruff shellcheck)
TESTS=(pytest)

TEST_PACKAGES=(
  # what the role hypervisor wants besides, so that its tests add nothing to the machine
  python3-libvirt
  # a libvirtd with access control
  dbus-daemon polkitd
  # ansible-rulebook
  openjdk-17-jre-headless
  # a connection over SSH
  openssh-client openssh-server
  # the guest with cloud-init (build-debian-guest.sh)
  mmdebstrap
  # what tests look at results with
  chromium genisoimage p7zip-full procps tmux xorriso
)

stage_setup() {
  install_packages "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
  start_libvirt
  make_venv "$VENV" "$(newest_python)" -r requirements-dev.txt
  # of its own: its dependencies must not decide those of the others
  make_venv "$CACHE/rulebook" "$(newest_python)" -r meta/ee-requirements.txt 'ansible-core>=2.19,<2.22' \
    'ansible-rulebook>=1.1' ansible-runner
}

# --- checks: they do not depend on each other, so they run side by side -----------------------------------------

stage_ruff() {
  ruff check --quiet --output-format concise .
  ruff format --quiet --diff .
}

stage_mypy() {
  mypy -p ansible_collections.golden.libvirt.plugins
  mypy extensions/eda/plugins/event_source/lifecycle.py
}

stage_reuse() {
  reuse lint --lines
}

stage_shellcheck() {
  grep -rlI '^#!.*sh$\|^# shellcheck shell=' scripts .ci | xargs -d '\n' shellcheck --external-sources
}

stage_ansible_lint() {
  ansible-lint -q --strict
}

stage_changelog() {
  antsibull-changelog lint
}

stage_docs() {
  antsibull-docs lint-collection-docs --plugin-docs --check-extra-docs-refs --validate-collection-refs=all .
}

# Copy the files that git knows or would add into a new folder.
copy_files() {
  rm -rf "$1"
  mkdir -p "$1"
  git ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -rd '' file; do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done |
    tar --create --null --files-from=- | tar --extract --directory "$1"
}

# The documentation as a site, in .cache/site.
stage_site() {
  local source=$CACHE/site-source site=$CACHE/site
  make_venv "$CACHE/sphinx" "$(newest_python)" 'ansible-core>=2.19,<2.22' 'antsibull-docs>=2.20' furo 'myst-parser>=4' \
    'sphinx>=8'
  PATH=$CACHE/sphinx/bin:$PATH
  copy_files "$source"
  mkdir -m 0755 "$source/reference"
  antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --no-add-antsibull-docs-version \
    --dest-dir "$source/reference" golden.libvirt
  rm -rf "$site"
  sphinx-build --quiet --fail-on-warning --keep-going --jobs auto --conf-dir docs --doctree-dir "$source/.doctrees" \
    "$source" "$site"
  echo '<meta http-equiv="refresh" content="0; url=docs/index.html">' >"$site/index.html"
}

# Build the collection, as it is shipped, in a folder of its own.
build() {
  rm -rf "$1"
  copy_files "$1/source"
  echo "repository: https://example.com/" >>"$1/source/galaxy.yml"  # the importer wants some address
  ansible-galaxy collection build --output-path "$1" "$1/source"
}

stage_sanity() {
  # ansible-test wants a real path like this and asks git for the files
  local tree=$CACHE/sanity/ansible_collections/golden/libvirt home=$CACHE/home pip version python
  build "$CACHE/sanity"
  mkdir -p "$tree"
  tar --extract --directory "$tree" --file "$CACHE"/sanity/golden-libvirt-*.tar.gz
  git init --quiet "$tree"

  # it takes the first python3.X on PATH for real
  mkdir -p "$CACHE/pythons"
  for version in 3.{9..14}; do
    if python=$(find_python "$version"); then ln -sfn "$python" "$CACHE/pythons/python$version"; fi
  done

  # it would download get-pip.py from a host of its own: give it one that uses the pip that comes with Python
  pip=$(python -c 'from ansible_test._internal.python_requirements import get_venv_packages as packages
from types import SimpleNamespace
print(packages(SimpleNamespace(version="3.12"))["pip"].replace(".", "_"))')
  mkdir -p "$home/.ansible/test/cache"
  ln -sfn "$HOME/.config" "$home/.config"  # pip's settings
  cat >"$home/.ansible/test/cache/get_pip_$pip.py" <<'PYTHON'
import runpy, subprocess, sys
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
sys.argv[1:] = ["install", *(option for option in sys.argv[1:] if option not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__")
PYTHON
  cd "$tree"
  HOME=$home PATH=$VENV/bin:$CACHE/pythons:$PATH ansible-test sanity
}

stage_importer() {
  make_venv "$CACHE/importer" "$(newest_python)" 'galaxy-importer>=0.4.30'
  {
    build "$CACHE/dist"
    cd "$CACHE/dist"
    PATH=$CACHE/importer/bin:$PATH python -m galaxy_importer.main golden-libvirt-*.tar.gz
  } 2>&1 | tee "$CACHE/importer.log"
  # it exits with 0 whatever ansible-lint finds
  if grep -E 'WARNING|ERROR' "$CACHE/importer.log"; then return 1; fi
}

# --- tests --------------------------------------------------------------------------------------------------------

stage_oldest_core() {
  if [[ $(ansible --version) == *'[core 2.19.'* ]]; then
    echo "the main environment has ansible-core 2.19 already"
    return
  fi
  make_venv "$CACHE/oldest-core" "$(newest_python)" -r meta/ee-requirements.txt 'ansible-core==2.19.*' pytest hypothesis
  unit_tests --files-with-matches |
    xargs -d '\n' "$CACHE/oldest-core/bin/pytest" -q tests/system/test_in_process.py
}

stage_oldest_python() {
  local python
  if ! python=$(find_python 3.9); then
    echo "NOT RUN: there is no Python 3.9 here"
    return
  fi
  # no ansible-core for controllers runs on it
  make_venv "$CACHE/oldest-python" "$python" pytest hypothesis PyYAML pycdlib pyfatfs
  unit_tests --files-without-match | xargs -d '\n' "$CACHE/oldest-python/bin/pytest" -q
}

# Print the files of the unit tests that need ansible-core or libvirt (--files-with-matches), or the others.
unit_tests() {
  grep -rE "$1" '_runner|_hypervisor|support\.(in_memory|modules)|(import|from) (ansible\b[^_]|libvirt)' --include 'test_*.py' tests/unit
}

# The guests that tests boot; made before, as making them takes a network.
stage_guests() {
  mkdir -p .cache/guests
  scripts/build-guest.sh --output .cache/guests/first.qcow2
  scripts/build-debian-guest.sh --output .cache/guests/first.qcow2
  rm .cache/guests/first.qcow2
}

# Each of the processes that share the tests has a libvirt of its own; one process, and libvirt as it is, where that
# takes rights that we do not have.
stage_pytest() {
  stage_guests
  if unshare --mount --pid --net --fork true 2>/dev/null; then
    exec pytest --dist worksteal --tx "$(($(nproc) + 1))*popen//python=scripts/own-libvirt.sh python"
  fi
  exec pytest
}

# Run a stage in this shell; show its name first and its seconds last.
run() {
  cd "$ROOT"
  echo "=== $1"
  trap 'echo "=== '"$1"' FAILED"' EXIT
  TIMEFORMAT="=== $1: %1R s"
  time "stage_$1"
  trap - EXIT
}

if [[ ${1-} == --in-one-piece ]]; then
  # a stage beside others: one line when it is well, else all of its output; 255 makes xargs start no further one
  output=$("$ROOT/scripts/test.sh" "$2" 2>&1) || { echo "$output"; exit 255; }
  echo "${output##*$'\n'}"
  exit
fi
if [[ -z ${GOLDEN_SETUP-} ]]; then
  run setup
  export GOLDEN_SETUP=yes PATH=$VENV/bin:$PATH
fi
if (($# == 0)); then
  printf '%s\n' "${CHECKS[@]}" | xargs -n 1 -P "$(nproc)" "$ROOT/scripts/test.sh" --in-one-piece
  set -- "${TESTS[@]}"
fi
for stage; do [[ $stage == setup ]] || run "$stage"; done
