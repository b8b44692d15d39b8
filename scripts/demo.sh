#!/usr/bin/env bash
# Shows the main job on real guests: publish a template version, make a pool of VMs from it, publish the next version,
# roll the pool to it VM by VM, and stop a rollout of a version that does not boot.
#
#   scripts/demo.sh            on a bare Debian 12: sets up what is missing, and shows it (some minutes)
#   scripts/demo.sh --clean    removes everything that it has made, apart from Debian packages
#
# Everything has the name golden-demo: a storage pool, a network, a template and three VMs. Nothing else is touched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

name=golden-demo
guests=$CACHE/demo
venv=$CACHE/demo-venv
export ANSIBLE_CONFIG=$guests/ansible.cfg

# Say what comes next, in plain words.
say() {
  printf '\n\e[1m%s\e[0m\n' "$*"
}

# Run a playbook of the collection on this machine's VMs.
play() {
  (cd "$guests" && "$venv/bin/ansible-playbook" -i golden.yml "$@")
}

# Run one module of the collection.
module() {
  (cd "$guests" && "$venv/bin/ansible" localhost -m "golden.libvirt.$1" -a "$2")
}

# Show the pool as its guests see themselves.
table() {
  "$venv/bin/python" "$ROOT/scripts/guest_table.py" "$name-vm-1" "$name-vm-2" "$name-vm-3"
}

setup() {
  install_packages "${PACKAGES[@]}"
  start_libvirt
  make_venv "$venv" "$(newest_python)" -r meta/ee-requirements.txt 'ansible-core>=2.19,<2.22'
  mkdir -p "$guests"
  printf '[defaults]\ninterpreter_python = %s\nlocalhost_warning = false\n[inventory]\ninventory_unparsed_warning = false\n' \
    "$venv/bin/python" >"$ANSIBLE_CONFIG"
  printf 'plugin: golden.libvirt.vms\nvm_pools: [%s-vm]\n' "$name" >"$guests/golden.yml"
}

build_guests() {
  local build=$ROOT/scripts/build-guest.sh
  "$build" --version 1 --output "$guests/1.qcow2"
  "$build" --version 2 --output "$guests/2.qcow2"
  "$build" --version 3 --output "$guests/3.qcow2" --broken
}

# Publish a version; $1 is its number.
publish() {
  play golden.libvirt.publish -e "publish_template=$name publish_create_base=true publish_storage_pool=$name" \
    -e "publish_source_path='$guests/$1.qcow2' publish_version_name=release-$1" \
    -e "publish_memory=128MiB publish_graphics=none publish_networks=$name"
}

rollout() {
  play golden.libvirt.rollout -e "rollout_vm_pool=$name-vm rollout_health_timeout=$1" "${@:2}"
}

must_fail() {
  if "$@"; then
    echo "the rollout of a broken version should have failed" >&2
    return 1
  fi
}

show() {
  say "1. A storage pool and a network of the demo's own"
  play golden.libvirt.hypervisor -i localhost, -c local -e "hypervisor_hosts=localhost" \
    -e "hypervisor_manage_packages=false hypervisor_manage_services=false hypervisor_manage_payload_hook=false" \
    -e "hypervisor_storage_pool=$name hypervisor_storage_pool_path=/var/lib/libvirt/$name" \
    -e "hypervisor_network=$name hypervisor_network_subnet=10.213.254.0/24"

  say "2. Three versions of a tiny bootable guest are built from this system's own packages; the third one is broken"
  build_guests

  say "3. Version 1 is published as a template, and a pool of three VMs is made from it and started"
  publish 1
  module vm_pool "vm_pool=$name-vm template=$name storage_pools=$name count=3 prestarted=3" >/dev/null
  for n in 1 2 3; do "$venv/bin/python" "$ROOT/scripts/guest_table.py" --leave-file "$name-vm-$n"; done

  say "4. What the guests say of themselves: version 1, and each with a file of its own on its root"
  table | tee "$guests/before"

  say "5. Version 2 is published; a dry run of the rollout says who would move"
  publish 2
  rollout 300 --check

  say "6. The rollout: the version is tried in a throw-away VM; then VM by VM, each up again before the next goes down"
  rollout 300

  say "7. The same VMs on version 2: name, MAC, IP and UUID are as before, the root is fresh (one boot, no file)"
  echo "before:" && cat "$guests/before"
  echo "now:" && table

  say "8. Version 3, which does not boot, is published and rolled out: the throw-away VM shows it, and no VM is touched"
  publish 3
  must_fail rollout 30

  say "   Without that trial, it stops at the first VM and puts that one back"
  must_fail rollout 30 -e rollout_shadow_boot=false

  say "9. All three VMs are on version 2 and healthy; the rest of the pool was never touched"
  table
  say "Done. 'virsh list', 'ansible-inventory -i $guests/golden.yml --graph' to look around; scripts/demo.sh --clean to remove it."
}

clean() {
  if [[ -x $venv/bin/ansible ]] && start_libvirt; then
    module vm_pool "vm_pool=$name-vm state=absent wait_timeout=5" >/dev/null
    if virsh -q pool-info "$name" >/dev/null 2>&1; then
      module template_version "template=$name storage_pool=$name state=absent" >/dev/null
      as_root virsh -q pool-destroy "$name"
      as_root virsh -q pool-undefine "$name"
      as_root rmdir "/var/lib/libvirt/$name"
    fi
    if virsh -q net-info "$name" >/dev/null 2>&1; then
      as_root virsh -q net-destroy "$name"
      as_root virsh -q net-undefine "$name"
    fi
  fi
  rm -rf "$guests" "$venv"
}

case ${1-} in
  "") setup; show ;;
  --clean) clean ;;
  *) sed -n '2,/^$/s/^# \?//p' "$0" >&2; exit 2 ;;
esac
