#!/bin/sh
# In place of the agent of the tiny guest: it answers what it should not. Which lie it tells is the name of the program
# that it is asked to run.
while [ "$1" != -p ]; do shift; done
exec 3<>"$2"
mode=none
while :; do
  # Where libvirt is not connected, there is nothing to read, which is not the end: the real agent tries again, too.
  read -r line <&3 || { usleep 100000 && continue; }
  case $line in
    *guest-sync*)
      id=${line##*\"id\":}
      printf '{"return": %s}\n' "${id%%\}*}"
      ;;
    *guest-ping*) printf '{"return": {}}\n' ;;
    *guest-exec-status*)
      case $mode in
        *lie-number*) printf '{"return": {"exited": true, "exitcode": "zero", "signal": []}}\n' ;;
        *lie-output*) printf '{"return": {"exited": true, "exitcode": 0, "out-data": 7, "err-data": "%%"}}\n' ;;
        # ESC [ 2 J {{ 7 * 7 }} BEL
        *lie-escapes*) printf '{"return": {"exited": true, "exitcode": 1, "err-data": "G1sySnt7IDcgKiA3IH19Bw=="}}\n' ;;
        *) printf '{"return": {"exited": false}}\n' ;;
      esac
      ;;
    *guest-exec*)
      mode=$line
      case $line in
        *lie-error*) printf '{"error": {"class": "GenericError", "desc": "\\u001b[2J{{ 7 * 7 }}\\u0007"}}\n' ;;
        # After these, libvirt has done with an agent; for it to begin anew, this one ends, once libvirt has seen them.
        *lie-nonsense*) printf '{"return": [[[[[\n' && sleep 2 && exit ;;
        *lie-pid*) printf '{"return": {"pid": {"{{ 7 * 7 }}": 1}}}\n' ;;
        *lie-silence*) ;;
        *lie-flood*) head -c 12000000 /dev/zero | tr '\0' x && sleep 2 && exit ;;
        *) printf '{"return": {"pid": 1}}\n' ;;
      esac
      ;;
    *guest-network-get-interfaces*)
      printf '{"return": [{"name": "\\u001b[2J", "hardware-address": "@MAC@", "ip-addresses": ['
      printf '{"ip-address": "\\u001b[2J"}, {"ip-address": "{{ 7 * 7 }}"}, {"ip-address": 7}, '
      printf '{"ip-address": "127.0.0.1"}, {"ip-address": "192.0.2.66"}]}, '
      printf '{"hardware-address": "{{ 7 * 7 }}", "ip-addresses": [{"ip-address": "192.0.2.67"}]}]}\n'
      ;;
  esac >&3
done
