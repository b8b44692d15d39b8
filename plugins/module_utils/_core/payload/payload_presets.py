"""Payloads that well-known programs in a guest look for: cloud-init's NoCloud, and the answers of Windows Setup."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any, Union

from ..errors import InvalidError
from .payload_files import DEFAULT_VOLUME_ID, PayloadFile, utf8

CLOUD_INIT_VOLUME_ID = "cidata"
SYSPREP_FILENAMES = ("unattend.xml", "Autounattend.xml", "sysprep.inf")

UserData = Union[str, Mapping[str, Any], list[Any]]
"""Text as it is; a dictionary as ``#cloud-config``, a list as ``#cloud-config-archive``."""
YamlData = Union[str, Mapping[str, Any]]
"""YAML as text, or the dictionary that it stands for."""

_INSTANCE_ID, _HOST_NAME = "instance-id", "local-hostname"
# what JSON allows in a string as it is, and YAML forbids or takes for the end of a line
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_ENCODING = re.compile(rb"""<\?xml[^>]*\sencoding\s*=\s*["']([^"']*)["']""")


def cloud_init(
    vm_name: str,
    vm_uuid: str,
    user_data: UserData | None = None,
    meta_data: YamlData | None = None,
    network_config: YamlData | None = None,
) -> tuple[list[PayloadFile], str]:
    """Return the files and the volume id of a NoCloud seed for cloud-init.

    ``meta-data`` gets what it lacks of ``local-hostname`` (the VM's name) and ``instance-id``. cloud-init takes a new
    instance id for a new machine: it makes host keys, users, network and the rest anew; under the same id it reads
    most of the seed no more. So the id is made of the VM's UUID and of what the user wrote:

    - it is the same at every start and in every run of the same task, and whatever the order of dictionary keys;
    - it changes when the user's data change, as they would not be applied otherwise;
    - it differs between VMs, so that a template made from a machine that cloud-init had set up is set up anew;
    - it does not change with the VM's name (cloud-init sets the host name at each start) nor with a restore: a fresh
      root remembers no id.

    An ``instance-id`` in ``meta_data`` is left alone: then the user says when the data are applied.
    """
    user = _user_data(user_data)
    network = None if network_config is None else _yaml(network_config, "network_config")
    meta = _meta_data(meta_data)
    parts = (user, b"" if network is None else network, _yaml(meta, "meta_data"))
    # the lengths keep apart what would be the same when strung together
    written = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    defaults = {
        _INSTANCE_ID: f"{vm_uuid.lower()}-{hashlib.sha256(written).hexdigest()[:8]}",
        _HOST_NAME: vm_name,
    }
    files = [PayloadFile("meta-data", _with_defaults(meta, defaults)), PayloadFile("user-data", user)]
    if network is not None:
        files.append(PayloadFile("network-config", network))
    return files, CLOUD_INIT_VOLUME_ID


def sysprep(content: str, filename: str = SYSPREP_FILENAMES[0]) -> tuple[list[PayloadFile], str]:
    """Return the file that Windows Setup or Sysprep takes its answers from, and the volume id.

    It is stored as UTF-8 with the line ends of Windows. What is no well-formed XML is an error, which does not show it:
    such files hold passwords.
    """
    if filename.lower() not in (name.lower() for name in SYSPREP_FILENAMES):
        raise InvalidError(f"filename {filename!r} is none that Windows looks for; use {', '.join(SYSPREP_FILENAMES)}")
    stored = utf8(re.sub(r"\r?\n", "\r\n", content), f"file {filename!r}")
    if filename.lower().endswith(".xml"):
        _check_xml(stored, filename)
    return [PayloadFile(filename, stored)], DEFAULT_VOLUME_ID


def _check_xml(stored: bytes, filename: str) -> None:
    encoding = _ENCODING.match(stored.removeprefix(b"\xef\xbb\xbf"))
    if encoding is not None and encoding[1].lower() not in (b"utf-8", b"us-ascii"):
        raise InvalidError(
            f"file {filename!r} says that it is of another encoding than UTF-8, in which it is stored; write "
            'encoding="utf-8" in its first line'
        )
    try:
        ET.fromstring(stored)
    except ET.ParseError as error:
        line, column = error.position
        raise InvalidError(
            f"file {filename!r} is no well-formed XML: see line {line}, column {column + 1}; correct it there"
        ) from None


def _user_data(user_data: UserData | None) -> bytes:
    if user_data is None:
        return b""
    if isinstance(user_data, str):
        return utf8(user_data, "user_data")
    if not isinstance(user_data, (Mapping, list)):
        raise InvalidError("user_data is neither text, nor a dictionary, nor a list")
    kind = "#cloud-config" if isinstance(user_data, Mapping) else "#cloud-config-archive"
    return f"{kind}\n".encode("ascii") + _json(user_data, "user_data")


def _yaml(data: YamlData, option: str) -> bytes:
    if isinstance(data, str):
        return utf8(data, option)
    if not isinstance(data, Mapping):
        raise InvalidError(f"{option} is neither text nor a dictionary")
    return _json(data, option)


def _json(data: Any, option: str) -> bytes:
    """Return data as JSON which is YAML too, the same for the same data."""
    try:
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InvalidError(f"{option}: a number is infinite or none at all; write it as text") from None
    return utf8(_NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text), option) + b"\n"


def _meta_data(meta_data: YamlData | None) -> YamlData:
    """Return the user's meta-data, as a dictionary where it can be read as one."""
    if meta_data is None:
        return {}
    if not isinstance(meta_data, str):
        return meta_data  # what is no dictionary is refused where it is written
    lines = (line for line in meta_data.splitlines() if line.strip() and not line.startswith(("#", "---")))
    first = next(lines, None)
    if first is None:
        return {}
    if first.startswith("{"):
        try:
            parsed = json.loads(meta_data)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict):
            return parsed
    elif re.match(r"[^\s:\[-][^:]*:(\s|$)", first):
        return meta_data
    raise InvalidError(
        "meta_data is no YAML of the form 'key: value' with a key at the beginning of its first line; "
        "give it as a dictionary"
    )


def _with_defaults(meta: YamlData, defaults: Mapping[str, str]) -> bytes:
    """Return meta-data, with those of the defaults that it lacks."""
    if not isinstance(meta, str):
        return _json({**defaults, **meta}, "meta_data")
    lacking = {
        key: value for key, value in defaults.items() if not re.search(rf"^[\"']?{key}[\"']?\s*:", meta, re.MULTILINE)
    }
    end = "" if meta.endswith("\n") else "\n"
    return utf8(meta + end + "".join(f"{key}: {json.dumps(value)}\n" for key, value in lacking.items()), "meta_data")
