//! Points at which the tests of crashes kill or stop the program: only with the feature `failpoints`, which is off by default and which
//! `tests/failpoints.rs` holds out of a normal build.
//!
//! `CF_MYSQL_BROKER_FAILPOINT` says what happens: `NAME` or `NAME:kill` raises SIGKILL at the point of that name, `NAME:stop` raises SIGSTOP
//! there, the first time only, and `*:kill:0.02` raises SIGKILL at every point with this probability.
//!
//! | points | of |
//! |---|---|
//! | `P0` `P1.inside` `P1` `P2` `P3` | a provision: before its transaction, in it, after each step |
//! | `D1` `D2.locked` `D2.database` `D2` `D3.inside` `D3` | a deprovision: claimed, nobody can log in, database gone, accounts gone, in the last transaction, done |
//! | `B0` `B1` `B2` `B3` `B4` | a bind: before its transaction, after each step |
//! | `U1` `U2.account` `U2` `U3` | an unbind; `U2.account`: account gone, sessions not |
//! | `C1` `C2` `C3` | a change of plan: begun, limits applied, ended |
//! | `E1` `E2` | the enforcer: privileges taken, or given back, and no session ended yet |

/// A point of this name.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::hit($name);
    };
}
pub(crate) use failpoint;

/// Whether something happens at this point: for steps that are one statement otherwise.
#[cfg(feature = "failpoints")]
pub(crate) fn is_armed(name: &str) -> bool {
    armed().is_some_and(|armed| armed.name == name || armed.name == "*")
}

#[cfg(feature = "failpoints")]
struct Armed {
    name: String,
    stop: bool,
    probability: f64,
    done: std::sync::atomic::AtomicBool,
}

#[cfg(feature = "failpoints")]
fn armed() -> Option<&'static Armed> {
    static ARMED: std::sync::OnceLock<Option<Armed>> = std::sync::OnceLock::new();
    ARMED
        .get_or_init(|| {
            let text = std::env::var("CF_MYSQL_BROKER_FAILPOINT").ok()?;
            let mut parts = text.split(':');
            let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
            let stop = parts.next() == Some("stop");
            let probability = parts.next().and_then(|text| text.parse().ok()).unwrap_or(1.0);
            Some(Armed { name, stop, probability, done: false.into() })
        })
        .as_ref()
}

#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};

    let Some(armed) = armed().filter(|armed| armed.name == name || armed.name == "*") else { return };
    if armed.probability < 1.0 && rand::random::<f64>() >= armed.probability {
        return;
    }
    if armed.stop && armed.done.swap(true, std::sync::atomic::Ordering::SeqCst) {
        return;
    }
    eprintln!("failpoint {name}");
    let _ = kill_process(getpid(), if armed.stop { Signal::STOP } else { Signal::KILL });
    // the signal reaches this thread a moment after the call; nothing may be done in between
    std::thread::sleep(std::time::Duration::from_millis(100));
}
