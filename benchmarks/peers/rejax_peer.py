"""rejax with CleanRL's hyper-parameters: `rejax_peer.py dqn|ppo|pqn ENV STEPS SEEDS [RATE,RATE...]`.

Runs in an environment of its own; prints one JSON line. It does not evaluate, as what it is compared with does not.
"""

import json
import sys
import time

import jax
import rejax

name, env, steps, seeds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
common = {"env": env, "total_timesteps": steps, "eval_freq": steps, "skip_initial_evaluation": True, "gamma": 0.99}
SETTINGS: dict[str, dict] = {
    "dqn": {
        "num_envs": 10,
        "buffer_size": 10_000,
        "fill_buffer": 10_000,
        "batch_size": 128,
        "num_epochs": 1,
        "target_update_freq": 500,
        "polyak": 0.0,
        "learning_rate": 2.5e-4,
        "eps_start": 1.0,
        "eps_end": 0.05,
        "exploration_fraction": 0.5,
        "ddqn": False,
        "agent_kwargs": {"activation": "relu"},
    },
    "ppo": {
        "num_envs": 4,
        "num_steps": 128,
        "num_epochs": 4,
        "num_minibatches": 4,
        "learning_rate": 2.5e-4,
        "gae_lambda": 0.95,
        "clip_eps": 0.2,
        "ent_coef": 0.01,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
        "agent_kwargs": {"activation": "tanh", "hidden_layer_sizes": (64, 64)},
    },
    "pqn": {
        "num_envs": 32,
        "num_steps": 128,
        "num_epochs": 1,
        "num_minibatches": 16,
        "learning_rate": 3e-4,
        "max_grad_norm": 10.0,
        "td_lambda": 0.65,
        "eps_start": 1.0,
        "eps_end": 0.05,
        "exploration_fraction": 0.2,
    },
}
algorithm = {"dqn": rejax.DQN, "ppo": rejax.PPO, "pqn": rejax.PQN}[name]
agent = algorithm.create(**common, **SETTINGS[name]).replace(eval_callback=lambda algorithm, state, rng: ())
keys = jax.random.split(jax.random.PRNGKey(0), seeds)
inputs: tuple = (keys,) if seeds > 1 else (keys[0],)
train = jax.vmap(agent.train) if seeds > 1 else agent.train
if len(sys.argv) > 5:  # a sweep: learning rates × seeds
    rates = jax.numpy.array([float(rate) for rate in sys.argv[5].split(",")])

    def train_one(rate, key):
        return agent.replace(learning_rate=rate).train(key)

    train, inputs = jax.vmap(jax.vmap(train_one, (None, 0)), (0, None)), (rates, keys)
    seeds *= len(rates)
start = time.perf_counter()
compiled = jax.jit(train).lower(*inputs).compile()
compile_s = time.perf_counter() - start
times = []
for _ in range(2):
    start = time.perf_counter()
    jax.block_until_ready(compiled(*inputs))
    times.append(time.perf_counter() - start)
print(json.dumps({"compile_s": compile_s, "run_s": min(times), "steps_per_s": seeds * steps / min(times)}))
