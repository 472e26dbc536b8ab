"""Fields of the leaderboard's rows that are null for most runs."""

POOL = ("pool_ndcg_at_10", "pool_ndcg_at_10_ci_low", "pool_ndcg_at_10_ci_high", "pool_recall_at_1", "pool_mean_rank")
JUDGMENTS = (
    *("corrected_ndcg_at_10", "corrected_ndcg_at_10_ci_low", "corrected_ndcg_at_10_ci_high"),
    *("corrected_ndcg_at_10_judging_low", "corrected_ndcg_at_10_judging_high", "corrected_ndcg_at_10_partly"),
    *("corrected_units", "corrected_predicted_by", "corrected_why"),
)
# In the order of the columns; the last is of sets from a pool too.
NEITHER = dict.fromkeys((*POOL, *JUDGMENTS, "miner_family"))
