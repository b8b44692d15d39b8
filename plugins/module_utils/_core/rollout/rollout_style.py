"""How the report of a rollout looks: its colours, light and dark, and its style sheet."""

from __future__ import annotations

LIGHT = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "sunk": "#eef1f5",
    "text": "#1a2230",
    "muted": "#55606f",
    "line": "#dde2e9",
    "accent": "#1f55c4",
    "good": "#14704a",
    "good-soft": "#e2f3ea",
    "bad": "#b3261e",
    "bad-soft": "#fdeceb",
    "warn": "#855300",
    "warn-soft": "#fdf1dc",
    "drain": "#5b6b81",
    "prepare": "#7688a0",
    "stop": "#b8620b",
    "switch": "#8044d8",
    "boot": "#2f6be0",
    "verify": "#0d8a78",
    "settle": "#7688a0",
    "back": "#c2352c",
    "undrain": "#5b6b81",
}
DARK = {
    "page": "#0f141b",
    "card": "#171e27",
    "sunk": "#1f2833",
    "text": "#e7ecf3",
    "muted": "#a0adbd",
    "line": "#2c3643",
    "accent": "#8db4ff",
    "good": "#62d29f",
    "good-soft": "#14342a",
    "bad": "#ff948b",
    "bad-soft": "#3d1f1f",
    "warn": "#f2c265",
    "warn-soft": "#3a2e16",
    "drain": "#8b9bb0",
    "prepare": "#71839b",
    "stop": "#eda03b",
    "switch": "#b08cff",
    "boot": "#669cff",
    "verify": "#35bfa9",
    "settle": "#71839b",
    "back": "#ff7d72",
    "undrain": "#8b9bb0",
}


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:400 0.9375rem/1.55 ui-sans-serif,system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif;overflow-wrap:break-word}
.wrap{max-width:70rem;margin:0 auto;padding:2.5rem 1.5rem 3rem}
h1,h2,h3,p,ul,ol,dl,dd,figure,pre{margin:0;padding:0}
ul{list-style:none}
h1{font-size:1.875rem;line-height:1.2;font-weight:650;letter-spacing:-0.015em}
h2{font-size:1.125rem;line-height:1.3;font-weight:650;letter-spacing:-0.005em}
h3{font-size:0.9375rem;font-weight:650}
a{color:var(--accent);text-underline-offset:0.2em}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:4px}
.skip{position:absolute;left:1rem;top:-4rem;padding:0.5rem 1rem;background:var(--card);border-radius:0 0 8px 8px}
.skip:focus{top:0}
.muted{color:var(--muted)}
.num{font-variant-numeric:tabular-nums;white-space:nowrap}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}

.top{display:flex;flex-wrap:wrap;align-items:flex-start;gap:0.75rem 1.5rem;justify-content:space-between}
.over{color:var(--muted);font-size:0.8125rem;margin-bottom:0.375rem}
.facts{margin-top:0.625rem;display:flex;flex-wrap:wrap;gap:0.125rem 1.5rem;color:var(--muted);font-size:0.875rem}
.top>*,.facts span{min-width:0}
h1,.facts,.chips li,.version h3{overflow-wrap:anywhere}
.pill{display:inline-flex;align-items:center;gap:0.5em;padding:0.3125rem 0.875rem;border-radius:99px;font-weight:600;
font-size:0.875rem;white-space:nowrap;color:var(--muted);background:var(--sunk)}
.pill.good{color:var(--good);background:var(--good-soft)}
.pill.bad{color:var(--bad);background:var(--bad-soft)}
.pill.warn{color:var(--warn);background:var(--warn-soft)}

.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:0.75rem;margin-top:1.75rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:0.875rem 1rem 1rem}
.tile dt{color:var(--muted);font-size:0.8125rem}
.tile dd{font-size:1.5rem;line-height:1.25;font-weight:650;letter-spacing:-0.01em;margin-top:0.125rem}
.tile dd small{display:block;font-size:0.8125rem;line-height:1.4;font-weight:400;letter-spacing:0;color:var(--muted);
white-space:normal}
.tile.bad dd{color:var(--bad)}

section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.375rem 1.5rem 1.5rem;
margin-top:1.25rem}
.lead{color:var(--muted);font-size:0.875rem;margin-top:0.25rem}
h2+*,.lead+*{margin-top:1.125rem}
h2+.lead{margin-top:0.25rem}

.failure{border-left:3px solid var(--bad);padding:0.125rem 0 0.125rem 1rem}
.failure+.failure{margin-top:1.25rem}
.failure p{margin-top:0.25rem}
.failure details{margin-top:0.625rem}
summary{cursor:pointer;color:var(--accent);font-size:0.875rem;width:fit-content}
pre{margin-top:0.5rem;padding:0.75rem 1rem;background:var(--sunk);border-radius:8px;overflow:auto;max-height:22rem;
font-size:0.8125rem;line-height:1.5;white-space:pre;overflow-wrap:normal}

.legend{display:flex;flex-wrap:wrap;gap:0.375rem 1.125rem;font-size:0.8125rem;color:var(--muted)}
.legend li{display:inline-flex;align-items:center;gap:0.4375rem}
.legend svg{width:14px;height:14px;flex:none}
.chart{display:grid;grid-template-columns:minmax(6rem,max-content) minmax(0,1fr) max-content;column-gap:1rem;
align-items:center;font-size:0.875rem}
.chart>*,.vm span{min-width:0}
.chart .vm{display:flex;align-items:center;gap:0.5rem;max-width:16rem}
.chart .bar svg,.chart .axis svg{display:block;width:100%;height:30px;overflow:visible}
.chart .axis svg{height:20px}
.chart .axis{grid-column:2}
.chart .batch{grid-column:1/-1;color:var(--muted);font-size:0.75rem;padding-top:0.5rem}
.chart .time{text-align:right;padding-left:0.75rem}
.grid{stroke:var(--line);stroke-width:1}
.tick{fill:var(--muted);font-size:11px;font-variant-numeric:tabular-nums}
.track{stroke:var(--line);stroke-width:2}
.cross{stroke:var(--bad);stroke-width:2.25;stroke-linecap:round;fill:none}

.mark{flex:none;width:1.125rem;height:1.125rem;display:block}
.mark circle{fill:var(--sunk)}
.mark path{stroke:var(--muted);stroke-width:1.75;fill:none;stroke-linecap:round;stroke-linejoin:round}
.mark.good circle{fill:var(--good-soft)}
.mark.good path{stroke:var(--good)}
.mark.bad circle{fill:var(--bad-soft)}
.mark.bad path{stroke:var(--bad)}
.mark.warn circle{fill:var(--warn-soft)}
.mark.warn path{stroke:var(--warn)}

.scroll{overflow-x:auto;margin-left:-1.5rem;margin-right:-1.5rem;padding:0 1.5rem}
table{border-collapse:collapse;width:100%;font-size:0.875rem;overflow-wrap:normal}
th{text-align:left;font-weight:600}
thead th{color:var(--muted);font-size:0.8125rem;font-weight:500;padding:0 0.875rem 0.5rem 0;white-space:nowrap;
vertical-align:bottom}
tbody th,tbody td{border-top:1px solid var(--line);padding:0.5625rem 0.875rem 0.5625rem 0;vertical-align:top}
th:last-child,td:last-child{padding-right:0}
th.num,td.num{text-align:right}
tbody th,.versions{white-space:nowrap}
.versions{font-variant-numeric:tabular-nums}
.what{display:flex;gap:0.5rem;min-width:11rem}
.what .mark{margin-top:0.125rem}
.what small{display:block;color:var(--muted);font-size:0.8125rem}

.family li+li{border-top:1px solid var(--line)}
.version{display:grid;grid-template-columns:12rem minmax(0,1fr);gap:0.375rem 1.5rem;padding:0.875rem 0}
.version:last-child{padding-bottom:0}
.version:first-child{padding-top:0}
.version .tag{font-size:0.75rem;padding:0.0625rem 0.5rem;margin-left:0.375rem;border-radius:99px;background:var(--sunk);
color:var(--muted);font-weight:500;white-space:nowrap}
.version .tag.good{color:var(--good);background:var(--good-soft)}
.version .tag.bad{color:var(--bad);background:var(--bad-soft)}
.version .tag.warn{color:var(--warn);background:var(--warn-soft)}
.version .about{color:var(--muted);font-size:0.8125rem}
.version .about span{display:block}
.chips{display:flex;flex-wrap:wrap;gap:0.375rem;margin-top:0.4375rem}
.chips li{border:1px solid var(--line)!important;border-radius:6px;padding:0.0625rem 0.5rem;font-size:0.8125rem;
background:var(--page)}
.share{display:block;width:100%;height:8px;margin:0.5rem 0 0.375rem}
.share .all{fill:var(--sunk)}
.share .now{fill:var(--accent)}
.share .was{stroke:var(--muted);stroke-width:2}
footer{margin-top:1.5rem;color:var(--muted);font-size:0.8125rem}

@media (max-width:40rem){
.wrap{padding:1.5rem 1rem 2rem}
h1{font-size:1.5rem}
section{padding:1.125rem 1rem 1.25rem}
.scroll{margin-left:-1rem;margin-right:-1rem;padding:0 1rem}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}
.chart{grid-template-columns:minmax(0,1fr) max-content;grid-auto-flow:dense}
.chart .vm{padding-top:0.5rem;max-width:none}
.chart .time{padding-top:0.5rem;grid-column:2}
.chart .bar,.chart .axis{grid-column:1/-1}
.chart .bar svg{height:30px}
.version{grid-template-columns:minmax(0,1fr)}
}
@media print{body{background:none}section,.tile{break-inside:avoid}}
"""


def _phases() -> str:
    names = ("drain", "prepare", "stop", "switch", "boot", "verify", "settle", "back", "undrain")
    return "".join(f".p-{name}{{fill:var(--{name})}}" for name in names)


STYLE = (
    f":root{{color-scheme:light dark;{_variables(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    f"{_RULES}{_phases()}\n"
)
