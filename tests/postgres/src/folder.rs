//! The cluster's folder, which is gone when its owner is.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Error;
use crate::command::Owner;

/// Waits for its input to end, which happens when the owner closes it or dies, in whatever way.
/// Then it stops the poolers and the cluster in the folder `$1`, this by the command that follows,
/// and removes the folder. It tries again for a while: the owner may have died while the cluster
/// was made or started.
const WATCHER: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
folder=$1
shift
tries=0
while [ -e "$folder" ] && [ $tries -lt 100 ]; do
    for pid in "$folder"/pgbouncer-*/pid; do
        [ -f "$pid" ] && kill -s KILL "$(cat "$pid")"
    done
    "$@"
    rm -rf "$folder" && [ ! -e "$folder" ] && break
    tries=$((tries + 1))
    sleep 0.2
done
"#;

/// A folder in the system's folder for temporary files. When it is dropped, and also when the
/// process that made it is killed, what runs in it is stopped and it is removed.
pub(crate) struct Folder {
    path: PathBuf,
    watcher: Child,
    /// Held open for as long as the folder is wanted.
    wanted: Option<ChildStdin>,
}

impl Folder {
    pub(crate) fn new(owner: &Owner, pg_ctl: &Path) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(random_name()?);
        // Nobody else may look into it: it holds a password, and a socket through which one is not
        // asked for it.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Error::io(path.display()))?;
        let stop = owner.command(pg_ctl);
        let mut watcher = Command::new("sh");
        watcher
            .args(["-c", WATCHER, "watcher"])
            .arg(&path)
            .arg(stop.get_program())
            .args(stop.get_args());
        watcher
            .arg("-D")
            .arg(path.join("data"))
            .args(["-m", "immediate", "-s", "stop"]);
        // A process group of its own, for what ends a test or a command ends its whole group.
        watcher
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0);
        let mut watcher = watcher.spawn().map_err(Error::io("sh"))?;
        let wanted = watcher.stdin.take();
        let folder = Self {
            path,
            watcher,
            wanted,
        };
        owner.take(&folder.path)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.wanted = None;
        // It ends by itself, within a limit.
        let _ = self.watcher.wait();
    }
}

/// A name that is nobody else's.
pub(crate) fn random_name() -> Result<String, Error> {
    Ok(format!("chat-postgres-{}", secret(6)?))
}

/// Random bytes, in hexadecimal.
pub(crate) fn secret(bytes: usize) -> Result<String, Error> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(Error::io("/dev/urandom"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
