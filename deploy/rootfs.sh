#!/bin/bash
# rootfs.sh DIR PROGRAM...: collects in DIR the root file system of the image from the machine it runs on (Debian, the build stage of
# Dockerfile): the programs in /usr/bin, the libraries they link, and what those look for at run time. For scanners and for the law, the
# packages that the files come from are listed as distributions without a package manager do it (var/lib/dpkg/status.d), with their licences.
set -euo pipefail
root=$1
shift
mkdir -p "$root"/{usr/{bin,lib,lib64},etc/ssl/certs,tmp,proc,sys,dev,run,var/lib/dpkg/status.d,var/tmp}
chmod 1777 "$root/tmp" "$root/var/tmp"
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"

cp -L "$@" "$root/usr/bin/"
# "name => /path (address)", and the loader's "/path (address)"
libraries=$(ldd "$@" | sed -n 's#^[[:space:]]*\([^ ]* => \)\?\(/[^ ]*\) (0x.*#\2#p' | sort -u)
! ldd "$@" | grep 'not found' || exit 1
files=(/etc/ssl/certs/ca-certificates.crt /etc/ssl/openssl.cnf /usr/lib/os-release)
for library in $libraries; do files+=("$(realpath -s "$(dirname "$library" | sed 's#^/lib#/usr/lib#')/$(basename "$library")")"); done
for file in "${files[@]}"; do
	mkdir -p "$root${file%/*}"
	cp -L "$file" "$root$file"
done
ln -s ../usr/lib/os-release "$root/etc/os-release"
mkdir -p "$root/usr/lib/ssl"
ln -s /etc/ssl/certs /etc/ssl/openssl.cnf "$root/usr/lib/ssl/" # OpenSSL looks there
printf 'root:x:0:0:root:/:/sbin/nologin\nvm-import:x:65532:65532:vm-import-controller:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nvm-import:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

# Packages know a library by its real path, or by the one from before /usr was merged.
packages() {
	local file real
	echo ca-certificates # its file is made at its installation
	for file in "$@"; do
		real=$(realpath "$file")
		dpkg-query --search "$real" "${real#/usr}" 2>/dev/null | sed 's/: .*//' || true
	done
}
packages "$@" "${files[@]}" | sort -u | while read -r package; do
	name=${package%%:*}
	dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/$name"
	if [ -e "/usr/share/doc/$name/copyright" ]; then
		mkdir -p "$root/usr/share/doc/$name"
		cp -L "/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/"
	fi
done
echo "$(du -sb "$root" | cut -f1) bytes, of which $(stat -c '%s %n' "$@" | paste -sd, | sed 's/,/, /g')"
