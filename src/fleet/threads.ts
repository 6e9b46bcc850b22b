/**
 * Threads for each local instance. llama.cpp spins at its barriers, so one thread too many on a busy machine costs
 * far more than it brings: all instances together stay within the cores, and one core is left for the gateway and
 * everybody else. On two cores that is one thread an instance.
 */
export function shareThreads(options: { cores: number; instances: number }): number {
  return Math.max(1, Math.floor((options.cores - 1) / Math.max(1, options.instances)))
}
