#!/usr/bin/env bash
# Makes the pictures in docs/images from a real rollout of small guests: the terminal, and the report in a browser.
#
#   scripts/screenshots.sh     some minutes; needs the name desk-1 … desk-8 for VMs, which it removes again
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$ROOT/scripts/test.sh" setup
PYTHONPATH=$ROOT/tests exec "$VENV/bin/python" "$ROOT/scripts/screenshots.py"
