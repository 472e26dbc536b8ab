"""What the scores mean: leaderboard, intervals, comparison, corpus growth.

Reads mteb's result files and run records; never loads a model.
"""
