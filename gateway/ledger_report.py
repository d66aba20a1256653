"""The ledger as a page that a person reads and prints: one HTML file with nothing outside it."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from jinja2 import Environment

from storage import LedgerRecord
from storage.audit.checkpoint import Checkpoint
from storage.audit.search import Selection
from storage.audit.verification import LedgerReport

OUTCOMES = {0: "success", 4: "minor failure", 8: "serious failure", 12: "major failure"}
SHOWN = 5000  # records in the table; the counts are of all
ALARMS = frozenset(
    {"instance-quarantined", "incident-observed", "ledger-broken", "ledger-shortened", "verification-differs"}
)


def render(
    selection: Selection,
    records: Sequence[LedgerRecord],
    found: LedgerReport,
    newest: Checkpoint | None,
    *,
    now: datetime,
) -> str:
    """The page for these records; `found` is what a verification of the whole ledger said just now."""
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    return page.render(
        title=_title(selection),
        now=_moment(now.isoformat()),
        found=found,
        newest=newest,
        counts=sorted(Counter(record.event for record in records).items()),
        actors=Counter(record.actor for record in records).most_common(20),
        total=len(records),
        alarms=[record for record in records if record.event in ALARMS or record.outcome >= 8],
        records=records[-SHOWN:],
        outcomes=OUTCOMES,
        moment=_moment,
    )


def _title(selection: Selection) -> str:
    parts = [f"study {selection.study_uid}"] if selection.study_uid else []
    if selection.since is not None:
        parts.append(f"from {_moment(selection.since.isoformat())}")
    if selection.until is not None:
        parts.append(f"before {_moment(selection.until.isoformat())}")
    return ", ".join(parts) or "everything"


def _moment(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Scanwarden audit report: {{ title }}</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; color: #1b2733; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.when { color: #566; margin-top: .2rem }
.answer { border-left: .4rem solid; padding: .6rem 1rem; margin: 1rem 0 }
.intact { border-color: #1a7f4b; background: #eef8f2 } .broken { border-color: #b3261e; background: #fcefee }
table { border-collapse: collapse; width: 100% } th { text-align: left; border-bottom: 2px solid #c6ced6 }
td, th { padding: .25rem .6rem .25rem 0; vertical-align: top } td { border-bottom: 1px solid #e4e8ec }
code, .n { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere }
.n { text-align: right } .bad { color: #b3261e }
@media print { body { margin: 0; max-width: none; font-size: 10px } thead { display: table-header-group }
  tr { break-inside: avoid } }
</style>
</head>
<body>
<h1>Audit report: {{ title }}</h1>
<p class="when">Written {{ now }}. Times are UTC. No patient data stands in the ledger or in this report.</p>
{% if found.intact %}
<div class="answer intact"><strong>The ledger is intact.</strong>
{{ found.records }} records were verified from the first to the last; {{ found.covered }} of them are signed
by {{ found.checkpoints }} checkpoints{% if found.anchored %}, {{ found.anchored }} of which were held against files
outside the database{% endif %}.</div>
{% else %}
<div class="answer broken"><strong>The ledger is broken.</strong> What this report lists cannot be relied on.
<ul>
{% for each in found.breaks %}<li>record {{ each.seq }} ({{ each.kind }}): {{ each.text }}</li>
{% endfor %}
</ul></div>
{% endif %}
{% if newest %}
<p>Newest checkpoint: number {{ newest.number }} of {{ moment(newest.time) }}, {{ newest.seq }} records,
root <code>{{ newest.root }}</code>, signed by key <code>{{ newest.key_id }}</code>.</p>
{% endif %}
<h2>Alarms and failures ({{ alarms|length }})</h2>
{% if alarms %}
<table><thead><tr><th>#</th><th>time</th><th>event</th><th>outcome</th><th>what</th></tr></thead><tbody>
{% for each in alarms %}
<tr><td class="n">{{ each.seq }}</td><td>{{ moment(each.time) }}</td><td class="bad">{{ each.event }}</td>
<td>{{ outcomes.get(each.outcome, each.outcome) }}</td>
<td><code>{{ each.subject or each.study_uid or "" }} {{ each.details }}</code></td></tr>
{% endfor %}
</tbody></table>
{% else %}<p>None.</p>{% endif %}
<h2>What happened ({{ total }} records)</h2>
<table><tbody>
{% for event, count in counts %}<tr><td>{{ event }}</td><td class="n">{{ count }}</td></tr>
{% endfor %}
</tbody></table>
<h2>Who acted</h2>
<table><tbody>
{% for actor, count in actors %}<tr><td>{{ actor }}</td><td class="n">{{ count }}</td></tr>
{% endfor %}
</tbody></table>
<h2>Records{% if records|length < total %}, the newest {{ records|length }}{% endif %}</h2>
<table><thead><tr><th>#</th><th>time</th><th>event</th><th>outcome</th><th>actor</th><th>subject or study</th>
<th>details</th><th>hash</th></tr></thead><tbody>
{% for each in records %}
<tr><td class="n">{{ each.seq }}</td><td>{{ moment(each.time) }}</td><td>{{ each.event }}</td>
<td{% if each.outcome %} class="bad"{% endif %}>{{ outcomes.get(each.outcome, each.outcome) }}</td>
<td>{{ each.actor }}</td><td><code>{{ each.subject or each.study_uid or "" }}</code></td>
<td><code>{{ each.details if each.details != "{}" else "" }}</code></td><td><code>{{ each.hash[:16] }}</code></td></tr>
{% endfor %}
</tbody></table>
</body>
</html>
"""
