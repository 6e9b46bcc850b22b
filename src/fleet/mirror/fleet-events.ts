import type { InstanceSpec, InstanceState } from '../instance.ts'

/** What a process that launches and probes instances tells the others. Instances are named by numbers: ids repeat. */
export type FleetEvent =
  | { type: 'added'; number: number; spec: InstanceSpec; state: InstanceState }
  | { type: 'changed'; number: number; spec: InstanceSpec }
  | { type: 'moved'; number: number; from: InstanceState; to: InstanceState }
  | { type: 'removed'; number: number }

/** Requests under way on an instance, and the bytes that wait there for a first byte. */
export type CountNews = readonly [number: number, inFlight: number, waitingBytes: number]

/** How often processes tell each other of changed counts and of what rests: this long is what they know behind. */
export const shareEveryMs = 10
