"""How the page of demo-report.html looks, by light and by dark."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d2530; --soft: #5c6878; --rule: #e3e7ec; --card: #f6f8fa; --good: #1a7f4b;
  --bad: #c62828; --aim: #b26a00;
  --idle: #57b894; --spawning: #f2b84b; --activating: #8cc8f0; --active: #2f7fc1; --hot_idle: #a58bd6;
  --stopping: #b8c0ca;
  --warm: #35a07c; --waited: #e08a1e; --reaped: #8a94a1; --statement: #5c6878;
  --dnsmasq: #d9541e; --mesh: #2f7fc1; --plug: #35a07c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161c; --ink: #e6eaf0; --soft: #9aa6b5; --rule: #2a323d; --card: #1a2029; --good: #4cc38a;
    --bad: #ff6b6b; --aim: #f0b45a;
    --idle: #3c9a77; --spawning: #d29a2e; --activating: #6fb2e0; --active: #2b74b5; --hot_idle: #8a70c0;
    --stopping: #5d6774;
    --warm: #45b78f; --waited: #f0a04a; --reaped: #7b8696; --statement: #9aa6b5;
    --dnsmasq: #f0824a; --mesh: #5fa8e0; --plug: #45b78f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 36px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0 0 10px; }
.soft, figcaption { color: var(--soft); }
.verdict { display: inline-block; font-weight: 600; font-size: 13px; padding: 2px 10px; border-radius: 99px;
  color: var(--paper); background: var(--good); margin-bottom: 12px; }
.verdict.violated { background: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin: 22px 0 30px; }
.tile { background: var(--card); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 27px; line-height: 1.2; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
figure { margin: 0 0 34px; }
figcaption { font-size: 13.5px; margin-bottom: 8px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 28px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; fill: var(--ink); font-size: 12.5px; }
svg .tick { fill: var(--soft); font-size: 12px; }
svg .mark { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.grid { stroke: var(--rule); }
.phase { stroke: var(--soft); stroke-dasharray: 1 4; }
.floor { stroke: var(--ink); stroke-dasharray: 6 4; stroke-width: 1.3; }
.burst { stroke: var(--bad); stroke-width: 1.6; }
.halo { fill: none; stroke: var(--paper); stroke-width: 4; opacity: 0.55; }
.waiting { fill: none; stroke: var(--bad); stroke-width: 1.6; stroke-dasharray: 3 2; }
.area { stroke: var(--paper); stroke-width: 0.6; }
.area.idle { fill: var(--idle); } .area.spawning { fill: var(--spawning); }
.area.activating { fill: var(--activating); }
.area.active { fill: var(--active); } .area.hot_idle { fill: var(--hot_idle); }
.area.stopping { fill: var(--stopping); }
.curve { fill: none; stroke-width: 2.2; stroke-linejoin: round; } .dot { stroke: var(--paper); stroke-width: 1.5; }
.curve.warm { stroke: var(--warm); } .curve.waited { stroke: var(--waited); }
.curve.hot_idle { stroke: var(--hot_idle); }
.curve.statement { stroke: var(--statement); stroke-width: 1.6; stroke-dasharray: 4 3; }
.dot.warm { fill: var(--warm); } .dot.waited { fill: var(--waited); } .dot.hot_idle { fill: var(--hot_idle); }
.dot.statement { fill: var(--statement); }
.bar.warm { fill: var(--warm); } .bar.waited { fill: var(--waited); } .bar.hot_idle { fill: var(--hot_idle); }
.bar.reaped { fill: var(--reaped); }
.bar.submitted { fill: var(--rule); } .bar.run { fill: var(--active); }
h2.part { font-size: 22px; line-height: 1.25; margin-top: 14px; letter-spacing: -0.01em; }
.life { stroke: var(--soft); stroke-width: 1; opacity: 0.6; }
.step.dnsmasq { fill: var(--dnsmasq); stroke: var(--dnsmasq); } .step.mesh { fill: var(--mesh); stroke: var(--mesh); }
.step.plug { fill: var(--plug); stroke: var(--plug); } .step.folded { fill: var(--paper); stroke-width: 1.3; }
.fold { stroke-width: 1; opacity: 0.75; stroke-dasharray: 2 2; }
.fold.dnsmasq { stroke: var(--dnsmasq); } .fold.mesh { stroke: var(--mesh); } .fold.plug { stroke: var(--plug); }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; margin: 4px 0 8px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.key i.dashed { height: 0; width: 16px; border-radius: 0; border-top: 2px dashed; vertical-align: 4px; }
.wide { overflow-x: auto; margin-bottom: 34px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; }
td:first-child { white-space: nowrap; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; font-weight: 600; }
td.bar-is { white-space: nowrap; color: var(--soft); }
td.means { color: var(--soft); }
.held { color: var(--good); } .missed { color: var(--aim); } .violated-mark { color: var(--bad); font-weight: 700; }
.facts { font-size: 13.5px; color: var(--soft); }
"""
