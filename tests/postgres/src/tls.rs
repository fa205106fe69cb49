//! Certificates for a server that requires TLS.

use std::path::Path;
use std::process::Command;

use crate::Error;
use crate::command::run;

pub(crate) const AUTHORITY: &str = "authority.crt";
pub(crate) const FOREIGN_AUTHORITY: &str = "foreign-authority.crt";

const SETTINGS: &str = "\
[req]
distinguished_name = name
prompt = no

[name]
CN = a temporary name

[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash

[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
";

/// Creates two authorities, and a certificate of the first one for a local server: `server.crt` and
/// `server.key`.
pub(crate) fn make_certificates(folder: &Path) -> Result<(), Error> {
    let settings = folder.join("openssl.cnf");
    std::fs::write(&settings, SETTINGS).map_err(Error::io(settings.display()))?;
    let openssl = |line: &str| {
        run(Command::new("openssl")
            .args(line.split(' '))
            .current_dir(folder))
        .map(drop)
    };
    let new_key = "-config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for (key, certificate, name) in [
        ("authority.key", AUTHORITY, "/CN=authority"),
        ("foreign-authority.key", FOREIGN_AUTHORITY, "/CN=foreign"),
    ] {
        openssl(&format!(
            "req -x509 {new_key} -extensions authority -days 2 -subj {name} -keyout {key} -out \
            {certificate}"
        ))?;
    }
    openssl(&format!(
        "req -new {new_key} -subj /CN=localhost -keyout server.key -out server.csr"
    ))?;
    openssl(&format!(
        "x509 -req -in server.csr -CA {AUTHORITY} -CAkey authority.key -CAcreateserial -days 2 \
        -extfile openssl.cnf -extensions server \
         -out server.crt"
    ))
}
