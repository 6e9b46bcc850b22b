import type { ClaimedTask, ClaimRequest, TaskError, TaskStep, TaskUsage } from '../task-store.ts'
import { ByteReader, ByteWriter } from './byte-run.ts'
import { toMetadata } from './rows.ts'
import type { TakenTask } from './stored-task.ts'

/** What a claim answers, on its way back: one JSON text and one run of bytes for all of its tasks. */
type PackedClaim = { text: string; bytes: Uint8Array<ArrayBuffer>; steps: TaskStep[][] }

type PackedTask = [
  id: string,
  tenant: string,
  endpoint: string,
  band: number,
  attempt: number,
  attemptsMax: number,
  createdAtMs: number,
  runAtMs: number | null,
  deadlineMs: number | null,
  parent: string | null,
  position: number | null,
  notify: boolean,
  metadata: string | null,
  error: TaskError | null,
  usage: TaskUsage | null,
  payloadBytes: number,
  hasSteps: boolean,
]

export function packClaim(tasks: readonly TakenTask[]): PackedClaim {
  const bytes = new ByteWriter()
  const steps: TaskStep[][] = []
  const packed = tasks.map((task): PackedTask => {
    if (task.steps.length > 0) steps.push([...task.steps])
    return [
      task.id,
      task.tenant,
      task.endpoint,
      task.band,
      task.attempt,
      task.attemptsMax,
      task.createdAtMs,
      task.runAtMs,
      task.deadlineMs,
      task.parent,
      task.position,
      task.notify,
      task.metadata,
      task.error,
      task.usage,
      bytes.add(task.payload),
      task.steps.length > 0,
    ]
  })
  return { text: JSON.stringify(packed), bytes: bytes.join(), steps }
}

export function unpackClaim({ text, bytes, steps }: PackedClaim, request: ClaimRequest): ClaimedTask[] {
  const reader = new ByteReader(bytes)
  const withSteps = steps.values()
  return (JSON.parse(text) as PackedTask[]).map((packed) => ({
    task: unpackTask(packed, request),
    payload: reader.take(packed[15]),
    steps: packed[16] ? (withSteps.next().value ?? []) : [],
  }))
}

const unpackTask = (packed: PackedTask, { model, nowMs }: ClaimRequest): ClaimedTask['task'] => ({
  id: packed[0],
  tenant: packed[1],
  endpoint: packed[2],
  model,
  band: packed[3],
  status: 'running',
  attempt: packed[4],
  attemptsMax: packed[5],
  createdAtMs: packed[6],
  runAtMs: packed[7],
  deadlineMs: packed[8],
  startedAtMs: nowMs,
  finishedAtMs: null,
  cancelRequested: false,
  parent: packed[9],
  position: packed[10],
  notify: packed[11],
  metadata: toMetadata(packed[12]),
  error: packed[13],
  usage: packed[14],
})
