"""The options of a payload."""

from __future__ import annotations


class ModuleDocFragment:
    """What a payload holds, and how the VM is shown it."""

    DOCUMENTATION = r"""
options:
  type:
    description:
      - The medium. By default V(cdrom). Not with O(ignition), which is on no medium.
      - With V(network), which is for O(cloud_init), the guest fetches it over its network, from the hypervisor. The
        role P(golden.libvirt.hypervisor#role) installs there what serves it.
    type: str
    choices: [cdrom, floppy, network]
  files:
    description:
      - The files. Exactly one of O(files), O(cloud_init), O(sysprep) and O(ignition) is needed.
      - What they hold appears in no result, diff or log.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The path on the medium, with C(/) between folders. Any letters of Unicode, but no control characters and
            none that the medium cannot have.
        type: str
        required: true
      content:
        description: What is in the file. Text is stored as UTF-8, as it is.
        type: str
        required: true
      encoding:
        description: Whether O(files[].content) is text (V(utf-8)), or bytes written in V(base64).
        type: str
        choices: [utf-8, base64]
        default: utf-8
  cloud_init:
    description:
      - A NoCloud seed for cloud-init, with the volume id C(cidata), or over the network.
      - The C(instance-id) changes when these data change, so that cloud-init applies them, and else stays. Keep such a
        payload permanent - without it, cloud-init drops the network at a later boot.
    type: dict
    suboptions:
      user_data:
        description: Text as it is, a dictionary as C(#cloud-config), or a list as C(#cloud-config-archive).
        type: raw
      meta_data:
        description:
          - Text or a dictionary. What it lacks of C(instance-id) and C(local-hostname) (the VM's name) is added.
        type: raw
      network_config:
        description: Text or a dictionary.
        type: raw
  sysprep:
    description: The answers for Windows Setup or Sysprep, stored with the line ends of Windows.
    type: dict
    suboptions:
      filename:
        description: The name under which Windows looks for it.
        type: str
        choices: [unattend.xml, Autounattend.xml, sysprep.inf]
        default: unattend.xml
      content:
        description: The text. It must be well-formed XML, unless it is for C(sysprep.inf).
        type: str
        required: true
  ignition:
    description:
      - A configuration for Ignition, as JSON text or a dictionary. The guest reads it through QEMU's C(fw_cfg), as
        C(opt/com.coreos/config).
    type: raw
  volume_id:
    description: The name of the medium. By default C(PAYLOAD), with O(cloud_init) C(cidata).
    type: str
  max_file_size:
    description: A larger file is refused. A size such as V(1MiB).
    type: str
    default: 16KiB
  storage_pool:
    description: The storage pool for the volume with the payload. By default that of the VM's root.
    type: str
requirements:
  - pycdlib where the module runs, for V(cdrom)
  - pyfatfs where the module runs, for V(floppy)
"""

    OF_A_VM = r"""
options:
  payload:
    description:
      - Files that the VM, or each member of the pool, is shown on a CD or a floppy, or fetches over its network, at
        every start, from the first one. Without it, what it has stays. M(golden.libvirt.vm_payload) takes a payload
        away, or gives one for a single run.
      - What it holds appears in no result, diff or log.
    type: dict
    suboptions:
      type:
        description:
          - The medium. By default V(cdrom). Not with O(payload.ignition), which is on no medium.
          - With V(network), which is for O(payload.cloud_init), the guest fetches it over its network, from the
            hypervisor. The role P(golden.libvirt.hypervisor#role) installs there what serves it.
        type: str
        choices: [cdrom, floppy, network]
      files:
        description:
          - The files. Exactly one of O(payload.files), O(payload.cloud_init), O(payload.sysprep) and
            O(payload.ignition) is needed.
          - What they hold appears in no result, diff or log.
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - The path on the medium, with C(/) between folders. Any letters of Unicode, but no control characters and
                none that the medium cannot have.
            type: str
            required: true
          content:
            description: What is in the file. Text is stored as UTF-8, as it is.
            type: str
            required: true
          encoding:
            description: Whether O(payload.files[].content) is text (V(utf-8)), or bytes written in V(base64).
            type: str
            choices: [utf-8, base64]
            default: utf-8
      cloud_init:
        description:
          - A NoCloud seed for cloud-init, with the volume id C(cidata), or over the network.
          - The C(instance-id) changes when these data change, so that cloud-init applies them, and else stays. Keep
            such a payload permanent - without it, cloud-init drops the network at a later boot.
        type: dict
        suboptions:
          user_data:
            description: Text as it is, a dictionary as C(#cloud-config), or a list as C(#cloud-config-archive).
            type: raw
          meta_data:
            description:
              - Text or a dictionary. What it lacks of C(instance-id) and C(local-hostname) (the VM's name) is added.
            type: raw
          network_config:
            description: Text or a dictionary.
            type: raw
      sysprep:
        description: The answers for Windows Setup or Sysprep, stored with the line ends of Windows.
        type: dict
        suboptions:
          filename:
            description: The name under which Windows looks for it.
            type: str
            choices: [unattend.xml, Autounattend.xml, sysprep.inf]
            default: unattend.xml
          content:
            description: The text. It must be well-formed XML, unless it is for C(sysprep.inf).
            type: str
            required: true
      ignition:
        description:
          - A configuration for Ignition, as JSON text or a dictionary. The guest reads it through QEMU's C(fw_cfg), as
            C(opt/com.coreos/config).
        type: raw
      volume_id:
        description: The name of the medium. By default C(PAYLOAD), with O(payload.cloud_init) C(cidata).
        type: str
      max_file_size:
        description: A larger file is refused. A size such as V(1MiB).
        type: str
        default: 16KiB
      storage_pool:
        description: The storage pool for the volume with the payload. By default that of the VM's root.
        type: str
requirements:
  - pycdlib where the module runs, for V(cdrom)
  - pyfatfs where the module runs, for V(floppy)
"""
