#!/bin/sh
# Certificates for tests and small set-ups: a CA of one's own, one for the coordinator, one for each worker.
#   tools/make_certs.sh DIR HOST[,HOST...] [WORKER[=HOST[,HOST...]]...]
# makes DIR/ca.pem and DIR/ca.key (kept when they are there), DIR/coordinator/ and DIR/WORKER/, each with cert.pem, key.pem and
# ca.pem for --tls-dir. HOST is a name or address by which the coordinator, or a worker by its peers, is called; localhost and
# 127.0.0.1 are added. Run it again to renew. DAYS (90) is how long certificates live, TRUST (saeloom) the trust domain of workers.
set -eu
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$1 hosts=$2
shift 2
days=${DAYS:-90} trust=${TRUST:-saeloom}
command -v openssl >/dev/null || { echo "make_certs.sh: needs openssl" >&2; exit 1; }
umask 077
mkdir -p "$dir"

if [ ! -f "$dir/ca.key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=saeloom CA" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
fi
chmod 644 "$dir/ca.pem"  # people need it

# issue FOLDER ALTERNATIVE_NAMES: the files are renamed into their place, the key last but one, so that a process that
# looks meanwhile sees whole files.
issue() {
  out=$dir/$1
  mkdir -p "$out"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$out/key.new" -out "$out/request" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n' "$2" >"$out/extensions"
  openssl x509 -req -in "$out/request" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days "$days" \
    -extfile "$out/extensions" -out "$out/cert.new" 2>/dev/null
  cp "$dir/ca.pem" "$out/ca.new"
  mv "$out/ca.new" "$out/ca.pem"
  mv "$out/key.new" "$out/key.pem"
  mv "$out/cert.new" "$out/cert.pem"
  rm -f "$out/request" "$out/extensions"
  echo "$out"
}

# names_of HOST[,HOST...]: as alternative names.
names_of() {
  names="DNS:localhost,IP:127.0.0.1"
  for host in $(echo "$1" | tr ',' ' '); do
    case $host in
      localhost|127.0.0.1) ;;
      *:*) names="$names,IP:$host" ;;
      *[!0-9.]*) names="$names,DNS:$host" ;;
      *) names="$names,IP:$host" ;;
    esac
  done
  echo "$names"
}

issue coordinator "$(names_of "$hosts")"
for argument in "$@"; do
  worker=${argument%%=*}
  case $worker in
    ''|coordinator|-*|*[!a-z0-9-]*) echo "make_certs.sh: worker '$worker' is not a name: use a-z, 0-9 and '-', not 'coordinator'" >&2; exit 2 ;;
  esac
  issue "$worker" "$(names_of "$(echo "$argument" | tr '=' ',')"),URI:spiffe://$trust/worker/$worker"
done
