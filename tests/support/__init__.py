"""What the tests share: running modules and playbooks, asking virsh, things of libvirt that are removed afterwards."""
