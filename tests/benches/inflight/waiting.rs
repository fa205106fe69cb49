//! Measures the cost of waiting turns.

use std::time::{Duration, Instant};

use crate::agent::{Agent, WARM_UP};
use crate::fleet::{Fleet, Kind};
use crate::load;
use crate::table::{goal, head, row};

/// Most memory for each turn, in KiB.
const MAX_MEMORY_KIB: f64 = 64.0;

/// Largest growth of statements per second from few waiting turns to all. Heartbeats may fall into
/// or out of the observed time.
const MAX_GROWTH: f64 = 1.25;

/// Observation time while fewer than all turns wait.
const OBSERVATION_TIME: Duration = Duration::from_secs(10);

/// Starts more and more turns while none ends, then lets all end. Returns the missed goals.
pub async fn measure(kind: Kind, turns: usize, hold: u64) -> Vec<String> {
    let mut agent = Agent::start();
    let fleet = Fleet::start(kind, &agent.base_url);
    let clients = fleet.clients();
    for client in &clients {
        client.chat(None, WARM_UP).await;
    }
    println!(
        "\n{kind}, servers: {}; CHAT_AGENT_FIRST_BYTE_TIMEOUT=4m, otherwise default settings\n",
        clients.len()
    );
    head(&[
        "turns in flight",
        "started per second",
        "memory MiB",
        "KiB per turn",
        &format!("{} per second", kind.counted()),
        "CPU %",
    ]);
    let idle = fleet.memory();
    let (mut flight, mut faults, mut few, mut most) = (Vec::new(), Vec::new(), f64::NAN, f64::NAN);
    let mut each = f64::NAN;
    let mut steps: Vec<usize> = [0, 100, 1_000]
        .into_iter()
        .filter(|step| *step < turns)
        .collect();
    steps.push(turns);
    for step in steps {
        let (missing, started) = (step - flight.len(), Instant::now());
        faults.extend(load::begin(&clients, &mut flight, step).await);
        agent.holds(flight.len()).await;
        let rate = missing as f64 / started.elapsed().as_secs_f64();
        let look = if step == turns {
            Duration::from_secs(hold)
        } else {
            OBSERVATION_TIME
        };
        let (statements, cpu, since) = (fleet.statements(), fleet.cpu(), Instant::now());
        tokio::time::sleep(look).await;
        let seconds = since.elapsed().as_secs_f64();
        most = (fleet.statements() - statements) as f64 / seconds;
        let cpu = (fleet.cpu() - cpu).as_secs_f64() / seconds * 100.0;
        let memory = fleet.memory();
        each = (memory as f64 - idle as f64) / step as f64 / 1024.0;
        if step > 0 && few.is_nan() {
            few = most;
        }
        let rounded = |number: f64| {
            if number.is_nan() {
                String::from("–")
            } else {
                format!("{number:.1}")
            }
        };
        let of_each = if step == 0 {
            String::from("–")
        } else {
            rounded(each)
        };
        row(&[
            &step,
            &format!("{rate:.0}"),
            &format!("{:.0}", memory as f64 / 1_048_576.0),
            &of_each,
            &rounded(most),
            &rounded(cpu),
        ]);
    }
    let released = Instant::now();
    agent.open();
    faults.extend(load::end(flight).await);
    let took = released.elapsed();
    println!(
        "\nAll turns ended {:.1} s after the agent started to answer; memory then: {} MiB\n",
        took.as_secs_f64(),
        fleet.memory() >> 20
    );
    for fault in faults.iter().take(5) {
        println!("error: {fault}");
    }
    let goals = [
        goal(&format!("{kind}: errors"), faults.len() as f64, 0.0),
        goal(
            &format!("{kind}: KiB of memory per turn"),
            each,
            MAX_MEMORY_KIB,
        ),
        goal(
            &format!(
                "{kind}: {} per second with all turns vs. few",
                kind.counted()
            ),
            most / few,
            MAX_GROWTH,
        ),
    ];
    goals.into_iter().flatten().collect()
}
