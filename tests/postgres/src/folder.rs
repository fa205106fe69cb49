//! The temporary folder of a cluster.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Error;
use crate::command::Owner;

/// Shell script that waits for the end of its input, which comes when its parent drops the folder
/// or exits for any reason. It then stops the poolers and the cluster in the folder `$1`, the
/// latter by the command in the further arguments, and removes the folder. It retries for a while,
/// because the parent may have exited while it created or started the cluster.
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

/// A folder in the system's temporary folder. When it is dropped or its process is killed, the
/// programs in it are stopped and it is removed.
pub(crate) struct Folder {
    path: PathBuf,
    watcher: Child,
    /// Open as long as the folder exists.
    wanted: Option<ChildStdin>,
}

impl Folder {
    pub(crate) fn new(owner: &Owner, pg_ctl: &Path) -> Result<Self, Error> {
        let path = std::env::temp_dir().join(random_name()?);
        // Only the owner may read the folder: it contains a password, and a socket that requires
        // none.
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
        // The watcher needs its own process group, because a test runner ends the whole group of a
        // test.
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
        owner.chown(&folder.path)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.wanted = None;
        // The watcher ends within a limit.
        let _ = self.watcher.wait();
    }
}

/// Returns a random name.
pub(crate) fn random_name() -> Result<String, Error> {
    Ok(format!("chat-postgres-{}", secret(6)?))
}

/// Returns random bytes in hexadecimal.
pub(crate) fn secret(bytes: usize) -> Result<String, Error> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(Error::io("/dev/urandom"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
