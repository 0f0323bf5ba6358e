//! The picture of a run, as SVG: acknowledgements a second and their latency over time, with the faults shaded.

use crate::facts::Facts;
use crate::history::{Header, Time};
use crate::run::seconds;
use std::fmt::Write;

const WIDTH: f64 = 1400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 220.0;
const TOP: f64 = 150.0;
const SPACE: f64 = 50.0;
/// One column of the picture.
const STEP: Time = 250_000_000;

/// Draw it.
pub fn draw(header: &Header, facts: &Facts<'_>) -> String {
    let from = facts.phases.first().map_or(0, |(t, _)| *t).min(facts.acks.first().map_or(Time::MAX, |a| a.sent));
    let to = facts.acks.last().map_or(from + STEP, |a| a.t).max(from + STEP);
    let x = |t: Time| LEFT + (t.saturating_sub(from)) as f64 / (to - from) as f64 * (WIDTH - LEFT - RIGHT);
    let columns = usize::try_from((to - from) / STEP + 1).unwrap_or(1);
    let (mut counts, mut latencies) = (vec![0u64; columns], vec![Vec::<Time>::new(); columns]);
    for ack in facts.acks.iter().filter(|a| a.t >= from) {
        let column = usize::try_from((ack.t - from) / STEP).unwrap_or(0);
        counts[column] += 1;
        latencies[column].push(ack.t - ack.sent);
    }
    let height = TOP + 2.0 * PANEL + 2.0 * SPACE;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='{LEFT}' y='18' font-size='14'>{} · seed {} · {} faults · {}</text>",
        escape(&header.version),
        header.seed,
        facts.faults.len(),
        escape(&header.clients.join(", "))
    );
    for fault in &facts.faults {
        let (begin, heal) = (x(fault.inject), x(fault.heal.unwrap_or(to)));
        let normal = x(fault.normal.unwrap_or(to));
        let (y, tall) = (TOP, 2.0 * PANEL + SPACE);
        let (wide, rest) = ((heal - begin).max(0.5), (normal - heal).max(0.0));
        let title =
            escape(&format!("{}: {}; {}", fault.name, fault.detail, fault.effect.as_deref().unwrap_or("not seen")));
        let _ = writeln!(
            svg,
            "<g><title>{title}</title><rect x='{begin:.1}' y='{y}' width='{wide:.1}' height='{tall}' fill='#e66' opacity='0.28'/>\
             <rect x='{heal:.1}' y='{y}' width='{rest:.1}' height='{tall}' fill='#fb6' opacity='0.3'/>\
             <text transform='translate({:.1},{:.1}) rotate(-40)'>{}</text></g>",
            begin + 4.0,
            TOP - 6.0,
            escape(&fault.name)
        );
    }
    // What had to wait comes all at once: such a peak is cut, so that the steady rate can be seen.
    let mut sorted = counts.clone();
    sorted.sort_unstable();
    let most = (3 * sorted[sorted.len() / 2]).clamp(1, sorted[sorted.len() - 1].max(1));
    let per_second = |c: u64| c as f64 * 1e9 / STEP as f64;
    let top = per_second(most);
    panel(
        &mut svg,
        TOP,
        "acks a second",
        &[(0.0, "0".into()), (0.5, format!("{:.0}", top / 2.0)), (1.0, format!("{top:.0}"))],
    );
    let line: Vec<String> = (0..)
        .zip(&counts)
        .map(|(n, c)| {
            format!("{:.1},{:.1}", x(from + n * STEP + STEP / 2), TOP + PANEL * (1.0 - (per_second(*c) / top).min(1.0)))
        })
        .collect();
    let _ = writeln!(svg, "<polyline fill='none' stroke='#246' stroke-width='1.2' points='{}'/>", line.join(" "));

    // Milliseconds on a logarithmic scale, from 1 ms to 100 s.
    let base = TOP + PANEL + SPACE;
    let scale = |t: Time| ((seconds(t) * 1000.0).max(1.0).log10() / 5.0).min(1.0);
    let marks = [(0.0, "1 ms"), (0.2, "10 ms"), (0.4, "0.1 s"), (0.6, "1 s"), (0.8, "10 s"), (1.0, "100 s")];
    panel(&mut svg, base, "latency: median (blue), worst (red)", &marks.map(|(at, text)| (at, text.to_owned())));
    for (n, found) in (0..).zip(&mut latencies) {
        found.sort_unstable();
        if let (Some(median), Some(worst)) = (found.get(found.len() / 2), found.last()) {
            let at = x(from + n * STEP + STEP / 2);
            for (time, colour) in [(worst, "#c33"), (median, "#24a")] {
                let _ = writeln!(
                    svg,
                    "<circle cx='{at:.1}' cy='{:.1}' r='1.4' fill='{colour}'/>",
                    base + PANEL * (1.0 - scale(*time))
                );
            }
        }
    }
    let total = seconds(to - from);
    let tick = [1.0, 5.0, 10.0, 30.0, 60.0, 300.0].into_iter().find(|s| total / s < 30.0).unwrap_or(600.0);
    let mut s = 0.0;
    while s <= total {
        let at = LEFT + s / total * (WIDTH - LEFT - RIGHT);
        let _ = writeln!(svg, "<text x='{at:.1}' y='{:.1}' text-anchor='middle'>{s:.0} s</text>", base + PANEL + 30.0);
        s += tick;
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, y: f64, name: &str, marks: &[(f64, String)]) {
    let wide = WIDTH - LEFT - RIGHT;
    let _ = writeln!(svg, "<text x='{LEFT}' y='{:.1}' fill='#555'>{name}</text>", y + PANEL + 14.0);
    let _ = writeln!(svg, "<rect x='{LEFT}' y='{y}' width='{wide}' height='{PANEL}' fill='none' stroke='#999'/>");
    for (at, text) in marks {
        let line = y + PANEL * (1.0 - at);
        let _ = writeln!(
            svg,
            "<line x1='{LEFT}' x2='{:.1}' y1='{line:.1}' y2='{line:.1}' stroke='#ddd'/>\
             <text x='{:.1}' y='{:.1}' text-anchor='end'>{text}</text>",
            LEFT + wide,
            LEFT - 6.0,
            line + 4.0
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}
