import type { AttemptOutcome, QueueLimits, Settlement } from '../task-store.ts'
import { ByteReader, ByteWriter } from './byte-run.ts'
import type { Call } from './operations.ts'
import type { StoredTask } from './stored-task.ts'

/**
 * How calls travel to the storage thread. The frequent ones go as one JSON text and one run of bytes for the whole
 * message: cloning thousands of small objects costs more than storing them, and cloning a view of a buffer copies all
 * of the buffer that lies behind it.
 */

export type PackedCalls = {
  /** JSON of one `PackedCall` a call, and of the limits that they name. */
  text: string
  bytes: Uint8Array<ArrayBuffer>
  /** The other calls, as they are. */
  rest: Call[]
}

type PackedTask = [
  id: string,
  tenant: string,
  endpoint: string,
  model: string,
  band: number,
  cost: number,
  createdAtMs: number,
  runAtMs: number | null,
  deadlineMs: number | null,
  attemptsMax: number,
  parent: string | null,
  position: number | null,
  idempotencyKey: string | null,
  fingerprint: string | null,
  metadata: string | null,
  notify: boolean,
  payloadBytes: number,
]
type PackedSettlement = [
  id: string,
  attempt: number,
  nowMs: number,
  instance: string | null,
  /** Without its result. */
  outcome: { kind: AttemptOutcome['kind'] },
  resultBytes: number | null,
]
type PackedCall =
  [op: 0, tasks: PackedTask[], limits: number] | [op: 1, settlements: PackedSettlement[]] | [op: 2]

export function packCalls(calls: readonly Call[]): PackedCalls {
  const bytes = new ByteWriter()
  const rest: Call[] = []
  // Mostly one and the same object for all.
  const limits: QueueLimits[] = []
  const packed = calls.map((call): PackedCall => {
    if (call.op === 'submit') {
      if (limits.at(-1) !== call.args[1]) limits.push(call.args[1])
      return [0, call.args[0].map((task) => packTask(task, bytes)), limits.length - 1]
    }
    if (call.op === 'settle') return [1, call.args[0].map((settlement) => packSettlement(settlement, bytes))]
    rest.push(call)
    return [2]
  })
  return { text: JSON.stringify({ packed, limits }), bytes: bytes.join(), rest }
}

const packTask = (task: StoredTask, bytes: ByteWriter): PackedTask => [
  task.id,
  task.tenant,
  task.endpoint,
  task.model,
  task.band,
  task.cost,
  task.createdAtMs,
  task.runAtMs,
  task.deadlineMs,
  task.attemptsMax,
  task.parent,
  task.position,
  task.idempotencyKey,
  task.fingerprint,
  task.metadata,
  task.notify,
  bytes.add(task.payload),
]

function packSettlement(settlement: Settlement, bytes: ByteWriter): PackedSettlement {
  const { id, attempt, nowMs, instance, outcome } = settlement
  if (!('result' in outcome) || outcome.result === undefined)
    return [id, attempt, nowMs, instance, outcome, null]
  const { result, ...rest } = outcome
  return [id, attempt, nowMs, instance, rest, bytes.add(result)]
}

export function unpackCalls({ text, bytes, rest }: PackedCalls): Call[] {
  const reader = new ByteReader(bytes)
  const others = rest.values()
  const { packed, limits } = JSON.parse(text) as { packed: PackedCall[]; limits: QueueLimits[] }
  return packed.map((packed): Call => {
    switch (packed[0]) {
      case 0:
        return {
          op: 'submit',
          args: [packed[1].map((task) => unpackTask(task, reader)), limits[packed[2]] as QueueLimits],
        }
      case 1:
        return { op: 'settle', args: [packed[1].map((settlement) => unpackSettlement(settlement, reader))] }
      case 2:
        return others.next().value as Call
    }
  })
}

const unpackTask = (task: PackedTask, reader: ByteReader): StoredTask => ({
  id: task[0],
  tenant: task[1],
  endpoint: task[2],
  model: task[3],
  band: task[4],
  cost: task[5],
  createdAtMs: task[6],
  runAtMs: task[7],
  deadlineMs: task[8],
  attemptsMax: task[9],
  parent: task[10],
  position: task[11],
  idempotencyKey: task[12],
  fingerprint: task[13],
  metadata: task[14],
  notify: task[15],
  payload: reader.take(task[16]),
})

function unpackSettlement(packed: PackedSettlement, reader: ByteReader): Settlement {
  const [id, attempt, nowMs, instance, rest, length] = packed
  const outcome = (length === null ? rest : { ...rest, result: reader.take(length) }) as AttemptOutcome
  return { id, attempt, nowMs, instance, outcome }
}
