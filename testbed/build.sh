#!/usr/bin/env bash
# Builds the servers the tests run against: etcd, kube-apiserver, kube-controller-manager, kubectl and helm; external-dns, as
# far as external-dns/main.go takes it in; and maddy, a mail server.
#
# They are built from source through the Go module proxy, at the versions pinned by the go.mod and go.sum
# files beside this script, into a cache outside the work tree. What is there already is skipped. Progress
# goes to standard error; the last line of standard output is the directory with the binaries.
#
#   DKIM_TESTBED_CACHE   where the cache is (default: $XDG_CACHE_HOME/dkim-operator or ~/.cache/dkim-operator)
#   KUBEBUILDER_ASSETS   a directory whose etcd, kube-apiserver and kubectl are used instead, where present
#   DKIM_TESTBED_NICE    niceness of the builds (default 10)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DKIM_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dkim-operator}
# The same values are computed by src/binaries.rs: keep the order of the files.
pins() { (cd "$here" && cat "$@" | sha256sum | cut -c1-16); }
bin=$cache/testbed/$(pins {kubernetes,etcd,helm}/go.{mod,sum})/bin
# Apart, so that another version of one does not have the others built again.
external_dns=$cache/testbed/$(pins external-dns/{go.mod,go.sum,main.go})/bin
maddy=$cache/testbed/$(pins maddy/go.{mod,sum})/bin
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/kubernetes/go.mod")
k8s_flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"

# name | module directory | package | linker flags | usual time on two cores with nothing cached
table() {
  cat <<EOF
etcd|etcd|go.etcd.io/etcd/server/v3|-s -w|40 s
kube-apiserver|kubernetes|k8s.io/kubernetes/cmd/kube-apiserver|$k8s_flags|3 min 20 s
kube-controller-manager|kubernetes|k8s.io/kubernetes/cmd/kube-controller-manager|$k8s_flags|1 min
kubectl|kubernetes|k8s.io/kubernetes/cmd/kubectl|$k8s_flags|40 s
helm|helm|helm.sh/helm/v4/cmd/helm|-s -w|1 min 50 s
external-dns|external-dns|.|-s -w|1 min
maddy|maddy|github.com/foxcpp/maddy/cmd/maddy|-s -w|2 min
EOF
}

say() { printf '%s\n' "$*" >&2; }

in_assets() {
  case $1 in
    etcd | kube-apiserver | kubectl) [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]] ;;
    *) return 1 ;;
  esac
}

# The directory of a binary.
home() {
  case $1 in
    external-dns) printf '%s' "$external_dns" ;;
    maddy) printf '%s' "$maddy" ;;
    *) printf '%s' "$bin" ;;
  esac
}

have() { [[ -x $(home "$1")/$1 ]] || in_assets "$1"; }

missing() {
  local name
  while IFS='|' read -r name _; do
    if ! have "$name"; then printf '%s\n' "$name"; fi
  done < <(table)
}

child=
partial=
cleanup() {
  if [[ -n $child ]]; then kill "$child" 2>/dev/null || true; fi
  if [[ -n $partial ]]; then rm -f "$partial"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# build NAME MODULE PACKAGE FLAGS USUAL POSITION
build() {
  local name=$1 module=$2 package=$3 flags=$4 usual=$5 position=$6 started=$SECONDS said=$SECONDS now to
  to=$(home "$name")
  say "[$position] building $name (usually $usual)"
  partial=$to/.$name.$$
  (
    cd "$here/$module"
    exec env CGO_ENABLED=0 GOWORK=off nice -n "${DKIM_TESTBED_NICE:-10}" \
      go build -mod=readonly -trimpath -ldflags "$flags" -o "$partial" "$package"
  ) >&2 &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.5
    now=$SECONDS
    if ((now - said >= 15)); then
      said=$now
      say "[$position]   $name: $((now - started)) s so far (usually $usual)"
    fi
  done
  if ! wait "$child"; then
    child=
    say "[$position] $name did not build; go's message is above"
    return 1
  fi
  child=
  mv -f "$partial" "$to/$name"
  partial=
  say "[$position] $name is ready after $((SECONDS - started)) s"
}

main() {
  local wanted total=0 done_=0 begun=$SECONDS name module package flags usual
  wanted=$(missing)
  if [[ -n $wanted ]]; then
    if ! command -v go >/dev/null; then
      say "go is not installed: version 1.26.6 or later is needed to build $(tr '\n' ' ' <<<"$wanted")"
      return 1
    fi
    mkdir -p "$bin" "$external_dns" "$maddy"
    exec 9>"$bin/../lock"
    if ! flock -n 9; then
      say "another build is running: waiting for it to finish"
      flock 9
    fi
    # What another run left behind when it was killed.
    find "$bin" "$external_dns" "$maddy" -maxdepth 1 -name '.*' -type f -delete
    wanted=$(missing)
  fi
  if [[ -n $wanted ]]; then
    total=$(wc -l <<<"$wanted")
    say "building $total of $(table | wc -l) binaries, Kubernetes $version, into $cache/testbed"
    while IFS='|' read -r name module package flags usual; do
      if have "$name"; then continue; fi
      done_=$((done_ + 1))
      build "$name" "$module" "$package" "$flags" "$usual" "$done_/$total"
    done < <(table)
    say "all built after $((SECONDS - begun)) s"
  fi
  printf '%s\n' "$bin"
}

main "$@"
