"""What other libraries (CleanRL, Stable-Baselines3, PureJaxRL, rejax) call our settings: one table."""

from __future__ import annotations

from collections.abc import Collection

# Other names of the same thing: taken where flags are read and axes of a search are named.
SAME: dict[str, str] = {
    "learning_rate": "lr",
    "actor_learning_rate": "policy_lr actor_lr",
    "entropy_coef": "ent_coef",
    "value_coef": "vf_coef",
    "clip_epsilon": "clip_range clip_coef clip_eps",
    "gamma": "discount",
    "gae_lambda": "lam",
    "return_lambda": "lam td_lambda",
    "tau": "polyak",
    "temperature": "alpha",
    "priority_exponent": "alpha",
    "num_envs": "n_envs",
    "rollout_length": "n_steps num_steps",
    "num_epochs": "n_epochs update_epochs",
    "num_minibatches": "n_minibatches",
    "replay_capacity": "buffer_size",
    "epsilon_fraction": "exploration_fraction",
    "epsilon_start": "exploration_initial_eps eps_start start_e",
    "epsilon_end": "exploration_final_eps eps_end end_e",
    "target_update_every": "target_update_interval target_network_frequency",
    "hidden_sizes": "net_arch",
    "total_steps": "total_timesteps",
    "env": "env_id",
    "seeds": "n_seeds num_seeds",
}
# What does the same job but counts otherwise: only named in messages.
NEAR: dict[str, str] = {
    "num_minibatches": "batch_size minibatch_size",
    "rollout_length": "train_freq train_frequency n_step",
    "learning_rate_anneal": "anneal_lr",
    "normalize_observations": "norm_obs",
    "normalize_rewards": "norm_reward",
    "normalize_advantages": "norm_adv normalize_advantage",
}


def meant(name: str, valid: Collection[str]) -> list[str]:
    """Which of the `valid` settings `name` means: itself, else those that another library calls so."""
    return [name] if name in valid else [ours for ours, names in SAME.items() if ours in valid and name in names.split()]


def near(name: str, valid: Collection[str]) -> list[str]:
    """Which of the `valid` settings to suggest for a name of another library; [] where it is none."""
    return [ours for table in (SAME, NEAR) for ours, names in table.items() if ours in valid and name in names.split()]
