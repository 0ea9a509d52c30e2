#!/bin/sh
# Installs the program from the unpacked archive, or removes it: sh packaging/install.sh [uninstall]
#
# The program goes to /opt/pillarbox, the start-up file where the system keeps such files. The base directory is never
# touched. An installed server is stopped, replaced and started again. DESTDIR installs below another root (for images).
set -e

PLACE=/opt/pillarbox
ROOT=${DESTDIR:-}
HERE=$(cd "$(dirname "$0")/.." && pwd)
UNIT=$ROOT/etc/systemd/system/pillarbox.service
SCRIPT=$ROOT/etc/init.d/pillarbox

systemd() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

halt() {
  if systemd; then
    systemctl stop pillarbox 2>/dev/null || true
  elif [ -z "$ROOT" ] && [ -x "$SCRIPT" ]; then
    "$SCRIPT" stop
  fi
}

if [ "$1" = uninstall ]; then
  halt
  if systemd; then systemctl disable pillarbox 2>/dev/null || true; fi
  if [ -z "$ROOT" ] && command -v update-rc.d >/dev/null; then update-rc.d -f pillarbox remove >/dev/null; fi
  rm -rf "$ROOT$PLACE" "$UNIT" "$SCRIPT"
  echo "Pillarbox is removed. Its base directory, with all mail and settings, is as it was."
  exit 0
fi

[ -x "$HERE/pillarbox/pillarbox" ] || {
  echo "run this in the unpacked archive: the folder pillarbox is missing" >&2
  exit 1
}
halt
rm -rf "$ROOT$PLACE.new"
mkdir -p "$ROOT/opt" "$(dirname "$UNIT")" "$(dirname "$SCRIPT")"
cp -R "$HERE/pillarbox" "$ROOT$PLACE.new"
# Scripts can be pointed to these; the system's own programs of these names stay what they are.
for name in mail sendmail; do ln -s pillarbox "$ROOT$PLACE.new/$name"; done
rm -rf "$ROOT$PLACE"
mv "$ROOT$PLACE.new" "$ROOT$PLACE"
cp "$HERE/packaging/pillarbox.service" "$UNIT"
cp "$HERE/packaging/pillarbox.init" "$SCRIPT"
chmod 755 "$SCRIPT"
if systemd; then
  systemctl daemon-reload
  systemctl enable --now pillarbox
elif [ -z "$ROOT" ]; then
  if command -v update-rc.d >/dev/null; then update-rc.d pillarbox defaults >/dev/null; fi
  "$SCRIPT" start
fi
echo "Pillarbox is installed in $PLACE. Stop other mail servers of this machine, or their ports stay theirs."
echo "Administration: http://$(hostname):8010, user postmaster; the first password is the Password in"
echo "/var/Pillarbox/Accounts/postmaster.macnt/account.settings"
