"""Who is alive and who may do what only one may do: heartbeats and leases of the service's processes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.tables import Lease, Process


def beat(
    session: Session,
    executor_id: str,
    *,
    role: str,
    host: str,
    pid: int,
    started_at: datetime,
    now: datetime | None = None,
) -> None:
    """Say that a process of a role is alive."""
    process = session.get(Process, executor_id)
    if process is None:
        process = Process(executor_id=executor_id)
        session.add(process)
    process.role, process.host, process.pid, process.started_at = role, host, pid, started_at
    process.beat_at = now or datetime.now(UTC)


def processes(session: Session) -> Sequence[Process]:
    """Every process that ever beat and did not say goodbye, by role."""
    return session.scalars(select(Process).order_by(Process.role, Process.executor_id)).all()


def silent_processes(session: Session, silence: float, *, now: datetime | None = None) -> Sequence[Process]:
    """Processes whose last heartbeat is older than `silence` seconds: dead, or as good as."""
    moment = (now or datetime.now(UTC)) - timedelta(seconds=silence)
    return session.scalars(select(Process).where(Process.beat_at < moment).order_by(Process.beat_at)).all()


def forget(session: Session, executor_id: str) -> None:
    """Remove a process that ended, or whose work was taken over."""
    session.execute(delete(Process).where(Process.executor_id == executor_id))


def acquire_lease(session: Session, name: str, holder: str, seconds: float, *, now: datetime | None = None) -> bool:
    """Take or renew a lease for `seconds`; False while another holder's has not run out.

    The clocks of the machines that share a database have to agree to within the margin between two renewals.
    """
    moment = now or datetime.now(UTC)
    lease = session.get(Lease, name)
    if lease is None:
        lease = Lease(name=name, holder=holder, acquired_at=moment)
        session.add(lease)
    elif lease.holder != holder:
        if lease.expires_at > moment:
            return False
        lease.holder, lease.acquired_at = holder, moment
    lease.expires_at = moment + timedelta(seconds=seconds)
    return True


def release_lease(session: Session, name: str, holder: str) -> None:
    """Give a lease back before it runs out; another holder's is left alone."""
    session.execute(delete(Lease).where(Lease.name == name, Lease.holder == holder))
