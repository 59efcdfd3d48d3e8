"""The end of a run: its summary and the curve drawn of it."""

from __future__ import annotations

from pathlib import Path

from offlinerlkit_romi.envs import normalized_score
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.estimates import BEHAVIOUR, FQE, MODEL
from offlinerlkit_romi.experiment.folder import SUMMARY
from offlinerlkit_romi.experiment.session import Session
from offlinerlkit_romi.experiment.summary import PHASES, Summary, summarize
from offlinerlkit_romi.policy_trainer import PolicyTrainer
from offlinerlkit_romi.policy_trainer.timing import PhaseTimer
from offlinerlkit_romi.utils.plotter import plot_learning_curve


def close(session: Session, trainer: PolicyTrainer) -> Summary:
    """Write and show what came out."""
    resolved, logger = session.resolved, session.logger
    config, info, results = resolved.config, session.dataset.info, Path(logger.result_dir)
    estimates = session.folder.estimates()
    summary = summarize(
        trainer.history,
        trainer.timer.totals(),
        run_dir=logger.dir,
        algo=resolved.algo,
        task=config.task,
        data_source=info.source,
        seed=config.seed,
        steps=config.steps,
        counts=_counts(config, trainer.timer),
        score_behaviour=float(normalized_score(info.behaviour_return, session.task)),
        return_behaviour=info.behaviour_return,
        estimates=estimates[-1][1] if estimates else {},
        wall_seconds=session.clock.seconds(),
    )
    session.folder.finish(summary)
    if trainer.checkpoints is not None:  # a run without its summary is unfinished: not before it
        trainer.checkpoints.finished(
            summary.steps, trainer.state_parts() if trainer.sound else None
        )
    logger.log(summary.table())
    if trainer.history:
        steps, scores = zip(*trainer.history, strict=True)
        plot_learning_curve(
            results / "learning_curve.png",
            steps,
            [score.mean for score in scores],
            [score.std for score in scores],
            title=summary.title(),
            reference=summary.returns.get("behaviour", summary.score_behaviour),
            reference_label=f"the data's own {scores[-1].scale}",
            **({} if scores[-1].scale == "score" else {"y_label": "return (undiscounted)"}),
        )
        logger.log(f"learning curve: {results / 'learning_curve.png'}")
    elif _plot_estimates(results / "estimates.png", estimates, summary):
        logger.log(f"estimates: {results / 'estimates.png'}")
    logger.log(f"summary: {session.folder.path / SUMMARY}")
    return summary


def _counts(config: RunConfig, timer: PhaseTimer) -> dict[str, int]:
    """How often each recurring part was done: as counted, where it has a phase of its own."""
    done = timer.counts()
    names = {part.name.replace(" ", "_"): part.times for part in config.recurring}
    return {
        f"{name}s": done.get(name, 0) if name in PHASES else times for name, times in names.items()
    }


def _plot_estimates(
    path: Path, estimates: list[tuple[int, dict[str, float]]], summary: Summary
) -> bool:
    """Draw the estimate that was made most often, FQE's or the model's, if more than once."""
    name = max((FQE, MODEL), key=lambda name: sum(name in values for _, values in estimates))
    points = [(step, values[name]) for step, values in estimates if name in values]
    if len(points) < 2:
        return False
    plot_learning_curve(
        path,
        [step for step, _ in points],
        [value for _, value in points],
        [0.0] * len(points),
        title=summary.title(),
        reference=summary.estimates.get(BEHAVIOUR),
        reference_label="the data's own discounted return",
        y_label=f"{name} estimate of the discounted return (not a score)",
    )
    return True
