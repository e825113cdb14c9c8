#!/bin/sh
# SPDX-License-Identifier: MIT
#
# lectern pull over https: nginx with certificates of an authority of our own, reached on loopback, and through a proxy
# under names that nothing else can resolve. Who may be asked, who is told the token, and what is said when not.
PATH=$PATH:/usr/sbin
. tests/kit
need nginx openssl python3
unset CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR
chmod 755 "$dir" # the workers of a root nginx are another user
proxy=
folder="$dir/data/lectern/models"
clean_up() {
    stop
    [ -z "$proxy" ] || kill "$proxy" 2>/dev/null
}
stop() {
    [ -s "$dir/nginx.pid" ] || return 0
    kill "$(cat "$dir/nginx.pid")" 2>/dev/null
    tries=0
    while [ -e "$dir/nginx.pid" ] && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
}

# ---- an authority; certificates for hub.test (and this machine), cdn.test, an expired one, one that nobody signed
cd "$dir" || exit 1
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>"$dir/ssl.err"; }
sign() { # NAME ALTERNATIVE_NAMES OPTIONS...
    name=$1 names=$2
    shift 2
    printf 'subjectAltName=%s\n' "$names" >"$name.ext"
    key "$name" && openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr" 2>"$dir/ssl.err" &&
        openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -extfile "$name.ext" -out "$name.pem" \
            "$@" 2>"$dir/ssl.err"
}
key ca && openssl req -x509 -new -key ca.key -subj '/CN=lectern test authority' -days 2 -out ca.pem 2>"$dir/ssl.err" &&
    sign hub 'DNS:hub.test,DNS:localhost,IP:127.0.0.1' -days 2 && sign cdn DNS:cdn.test -days 2 &&
    sign expired DNS:expired.test -days -1 && key self &&
    openssl req -x509 -new -key self.key -subj /CN=self.test -addext subjectAltName=DNS:self.test -days 2 -out self.pem \
        2>"$dir/ssl.err" || { echo 'openssl cannot make certificates:'; cat "$dir/ssl.err"; exit 1; }
cd "$OLDPWD" || exit 1
mkdir "$dir/www"
python3 -c "import random; random.seed(3); open('$dir/www/x.gguf','wb').write(random.randbytes(300007))"
hash=$(sha256sum "$dir/www/x.gguf" | cut -d' ' -f1)
commit=0123456789abcdef0123456789abcdef01234567
host() { # NAME CERTIFICATE BODY
    echo "server { listen 127.0.0.1:$port ssl; server_name $1; root $dir/www;"
    echo "ssl_certificate $dir/$2.pem; ssl_certificate_key $dir/$2.key; $3 }"
}
hub() { # where the hub's files lie
    echo "location /owner/$1/ { add_header X-Repo-Commit $commit; add_header X-Linked-Size 300007;"
    echo "add_header X-Linked-Etag '\"$hash\"'; return 302 $2; }"
}
start() {
    {
        echo "pid $dir/nginx.pid; error_log $dir/error.log; worker_processes 1; events { worker_connections 64; }"
        echo "http { log_format all '\$host \$request_uri \$status \"\$http_authorization\" \"\$http_proxy_authorization\"';"
        echo "access_log $dir/access.log all; client_body_temp_path $dir/t1; proxy_temp_path $dir/t2;"
        echo "fastcgi_temp_path $dir/t3; uwsgi_temp_path $dir/t4; scgi_temp_path $dir/t5;"
        host 'hub.test localhost' hub "$(hub repo https://cdn.test/x.gguf) $(hub plain http://cdn.test/x.gguf)
            $(hub home "http://127.0.0.1:$port/x.gguf") $(hub odd https://wrong.test/x.gguf)"
        host cdn.test cdn ''
        host wrong.test cdn ''
        host expired.test expired ''
        host self.test self ''
        echo '}'
    } >"$dir/nginx.conf"
    nginx -p "$dir/" -e "$dir/error.log" -c "$dir/nginx.conf" 2>"$dir/nginx.err"
}
port=$((20000 + $$ % 20000))
tries=0
until start; do
    tries=$((tries + 1))
    port=$((port + 17))
    [ $tries -lt 20 ] || { echo 'skipped: nginx cannot listen here:'; cat "$dir/nginx.err"; exit 77; }
done
python3 tests/faults/proxy.py "$dir/proxy.port" "$dir/proxy.log" "$port" &
proxy=$!
tries=0
until [ -s "$dir/proxy.port" ] || [ $tries = 100 ]; do tries=$((tries + 1)); sleep 0.1; done
through="http://127.0.0.1:$(cat "$dir/proxy.port")"

# get EXPECTED WHAT: with what is in the environment
get() {
    expected=$1
    shift
    : >"$dir/access.log"
    : >"$dir/proxy.log"
    "$LECTERN" pull "$@" --chunk 64K --retries 0 --stall 3 >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
    [ $code = "$expected" ] || fail "exit $code, not $expected: pull $*"
    if [ "$expected" = 0 ]; then
        cmp -s "$dir/www/x.gguf" "$folder/x.gguf" || fail "another file: pull $*"
        "$LECTERN" models rm x.gguf 2>/dev/null || fail "rm after pull $*"
        return
    fi
    [ "$(wc -l <"$dir/err")" = 1 ] || fail "not one sentence: pull $*"
    [ -z "$(ls "$folder" 2>/dev/null)" ] || fail "left after pull $*: $(ls "$folder")"
}
says() { grep -q -- "$1" "$dir/err" || fail "stderr does not say \"$1\""; }
asked() { grep -q -- "$1" "$dir/access.log" || fail "nobody was asked \"$1\": $(cat "$dir/access.log")"; }
unasked() { if grep -q -- "$1" "$dir/access.log"; then fail "asked: $(grep -- "$1" "$dir/access.log")"; fi; }

# ---- https on loopback: only a certificate that somebody trusted signed
get 1 "https://127.0.0.1:$port/x.gguf"; says 'certificate of 127.0.0.1 is not accepted'; unasked x.gguf
export SSL_CERT_FILE="$dir/ca.pem"
get 0 "https://127.0.0.1:$port/x.gguf"
get 0 "https://localhost:$port/x.gguf"; asked 'localhost /x.gguf 206'
unset SSL_CERT_FILE
CURL_CA_BUNDLE="$dir/ca.pem" get 0 "https://localhost:$port/x.gguf"
SSL_CERT_FILE="$dir/none.pem" get 1 "https://localhost:$port/x.gguf"; unasked x.gguf
export SSL_CERT_FILE="$dir/ca.pem"
get 1 "http://127.0.0.1:$port/x.gguf"; says 'status 400' # plain words to a TLS port

# ---- plain http only on this machine
get 2 http://hub.test/x.gguf; says 'Only https is used'
https_proxy=$through http_proxy=$through get 2 http://hub.test/x.gguf; says 'Only https is used'
[ ! -s "$dir/proxy.log" ] || fail 'a plain address was asked of the proxy'

# ---- through a proxy
get 1 https://hub.test/x.gguf; says 'hub.test cannot be reached'
https_proxy=$through get 0 https://hub.test/x.gguf; asked 'hub.test /x.gguf 206'
grep -q '^CONNECT hub.test:443 -' "$dir/proxy.log" || fail 'the proxy was not asked'
HTTPS_PROXY=$through get 0 https://hub.test/x.gguf
all_proxy=$through get 0 https://hub.test/x.gguf
http_proxy=$through get 1 https://hub.test/x.gguf; says 'cannot be reached' # that one is for http
https_proxy=$through no_proxy=cdn.test,hub.test get 1 https://hub.test/x.gguf; says 'cannot be reached'
[ ! -s "$dir/proxy.log" ] || fail 'no_proxy was not heeded'
https_proxy=$through no_proxy=cdn.test get 0 https://hub.test/x.gguf
https_proxy=$through get 0 "https://127.0.0.1:$port/x.gguf"
[ ! -s "$dir/proxy.log" ] || fail 'a proxy was asked for this machine'
https_proxy=$(echo "$through" | sed 's|//|//me:word@|') get 0 https://hub.test/x.gguf
grep -q '^CONNECT hub.test:443 Basic' "$dir/proxy.log" || fail 'the proxy was not told its password'
unasked Basic
https_proxy=$through get 1 https://refused.test/x.gguf; says 'proxy does not let us through to refused.test (407)'
https_proxy=$through get 1 https://down.test/x.gguf; says 'proxy does not let us through to down.test (503)'
https_proxy=http://127.0.0.1:1 get 1 https://hub.test/x.gguf; says 'cannot be reached'
export https_proxy="$through"

# ---- whose certificate it is
get 1 https://wrong.test/x.gguf; says "certificate of wrong.test is not accepted (it is another host's)"; unasked wrong
get 1 https://expired.test/x.gguf; says 'expired.test is not accepted (certificate has expired)'; unasked expired
get 1 https://self.test/x.gguf; says 'self.test is not accepted (self-signed certificate)'; unasked self
get 1 hf:owner/odd/x.gguf; says 'huggingface.co' # its certificate is not of our authority

# ---- the hub by another name; the token is for it alone, also behind a redirect to another host
export HF_ENDPOINT=https://hub.test HF_TOKEN=secret
get 0 hf:owner/repo/x.gguf; says "the server says SHA-256 $hash"
asked '^hub.test /owner/repo/resolve/main/x.gguf 302 "Bearer secret"'
asked '^cdn.test /x.gguf 206 "-"'
if grep -v '^hub.test ' "$dir/access.log" | grep -q secret; then fail 'the token went to another host'; fi
if grep -q secret "$dir/proxy.log"; then fail 'the proxy was told the token'; fi
get 1 hf:owner/odd/x.gguf; says "wrong.test is not accepted"; unasked '^wrong'
get 1 hf:owner/plain/x.gguf; says 'where we do not go: Only https'; unasked '^cdn'
get 1 hf:owner/home/x.gguf; says 'to this machine itself'; unasked '^127'
get 0 https://cdn.test/x.gguf; unasked secret
HF_ENDPOINT=https://hub.test/ get 0 hf:owner/repo/x.gguf; asked '^hub.test /owner/repo/resolve/main/x.gguf 302 "Bearer secret"'
HF_ENDPOINT=http://hub.test get 2 hf:owner/repo/x.gguf; says 'Only https is used'
unset HF_TOKEN
printf 'machine hub.test login me password pass\nmachine cdn.test login you password other\n' >"$dir/.netrc"
chmod 600 "$dir/.netrc"
get 0 hf:owner/repo/x.gguf; asked '^hub.test .*"Basic bWU6cGFzcw=="'; asked '^cdn.test /x.gguf 206 "-"'
HF_TOKEN=secret get 0 hf:owner/repo/x.gguf; asked '"Bearer secret"'; unasked Basic
exit $bad
