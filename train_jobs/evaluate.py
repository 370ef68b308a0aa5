"""Tags a split and scores it in the job's own process, which needs the CPUs or the GPU that a tagger needs.

    python -m train_jobs.evaluate --workspace W --corpus panx --languages nl,de

is `retrieveall eval` with the same flags.
"""

from __future__ import annotations

if __name__ == "__main__":
    from retrieveall.cli.main import job_main

    job_main("eval")
