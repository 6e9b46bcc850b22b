import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { SchedulerObserver } from './scheduler.ts'

export type EngineMetrics = {
  observer: SchedulerObserver
  /** Counts a finished request by route and status. */
  countRequest(route: string, status: number): void
  /** Says where the numbers of sequences are read when somebody asks. */
  watch(counts: () => { idle: number; processing: number; waiting: number }): void
  /** All of it in Prometheus' text format. */
  render(): Promise<string>
  contentType: string
}

export function createMetrics(model: string): EngineMetrics {
  const registry = new Registry()
  registry.setDefaultLabels({ model })
  const registers = [registry]
  const prompt = new Counter({
    name: 'engine_prompt_tokens_total',
    help: 'Prompt tokens decoded, without those found in the cache.',
    registers,
  })
  const cached = new Counter({
    name: 'engine_cached_tokens_total',
    help: 'Prompt tokens found in the cache of a sequence.',
    registers,
  })
  const generated = new Counter({
    name: 'engine_generated_tokens_total',
    help: 'Tokens generated.',
    registers,
  })
  const requests = new Counter({
    name: 'engine_requests_total',
    help: 'Requests by route and status; 499 is a caller that left.',
    labelNames: ['route', 'status'],
    registers,
  })
  const steps = new Histogram({
    name: 'engine_step_duration_seconds',
    help: 'Duration of one decoding step over all sequences, sampling included.',
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
    registers,
  })
  const batches = new Histogram({
    name: 'engine_step_sequences',
    help: 'Sequences that a decoding step advanced.',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
    registers,
  })
  let read = () => ({ idle: 0, processing: 0, waiting: 0 })
  const sequences = new Gauge({
    name: 'engine_sequences',
    help: 'Sequences by state.',
    labelNames: ['state'],
    registers,
    collect() {
      for (const [state, count] of Object.entries(read())) this.set({ state }, count)
    },
  })
  void sequences
  return {
    observer: {
      onStep(step) {
        steps.observe(step.durationMs / 1000)
        batches.observe(step.sequences)
        if (step.generated > 0) generated.inc(step.generated)
      },
      onPrompt(tokens) {
        prompt.inc(tokens.read)
        cached.inc(tokens.cached)
      },
    },
    countRequest: (route, status) => requests.inc({ route, status: String(status) }),
    watch(counts) {
      read = counts
    },
    render: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
