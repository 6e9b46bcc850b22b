/**
 * Threads for each local instance. llama.cpp spins at its barriers, so one thread too many on a busy machine costs
 * far more than it brings: all instances together stay within the cores, and where there are more than two, one is
 * left for the gateway.
 */
export function shareThreads(options: { cores: number; instances: number }): number {
  const usable = options.cores > 2 ? options.cores - 1 : options.cores
  return Math.max(1, Math.floor(usable / Math.max(1, options.instances)))
}
