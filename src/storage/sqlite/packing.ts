import type {
  AttemptOutcome,
  ClaimedTask,
  NewTask,
  QueueLimits,
  Settlement,
  TaskRow,
  TaskStep,
} from '../store.ts'
import type { Call } from './operations.ts'

/**
 * How calls travel to the storage thread. The frequent ones go as one JSON text and one run of bytes for the whole
 * message: cloning thousands of small objects costs more than storing them, and cloning a view of a buffer copies all
 * of the buffer that lies behind it.
 */

export type PackedCalls = {
  /** JSON of one `PackedCall` a call. */
  text: string
  bytes: Uint8Array<ArrayBuffer>
  /** The other calls, as they are. */
  rest: Call[]
}

/** As `NewTask`, with its metadata as the JSON that is stored; null for none. */
export type StoredTask = Omit<NewTask, 'metadata'> & { metadata: string | null }

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
type PackedSettlement = [Settlement, resultBytes: number | null]
type PackedCall =
  [op: 0, tasks: PackedTask[], limits: QueueLimits] | [op: 1, settlements: PackedSettlement[]] | [op: 2]

class ByteWriter {
  readonly #pieces: Uint8Array[] = []
  #length = 0

  add(piece: Uint8Array): number {
    this.#pieces.push(piece)
    this.#length += piece.byteLength
    return piece.byteLength
  }

  join(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#length)
    let offset = 0
    for (const piece of this.#pieces) {
      bytes.set(piece, offset)
      offset += piece.byteLength
    }
    return bytes
  }
}

class ByteReader {
  readonly #bytes: Uint8Array
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  take(length: number): Uint8Array {
    this.#offset += length
    return this.#bytes.subarray(this.#offset - length, this.#offset)
  }
}

export function packCalls(calls: readonly Call[]): PackedCalls {
  const bytes = new ByteWriter()
  const rest: Call[] = []
  const packed = calls.map((call): PackedCall => {
    if (call.op === 'submit') return [0, call.args[0].map((task) => packTask(task, bytes)), call.args[1]]
    if (call.op === 'settle') return [1, call.args[0].map((settlement) => packSettlement(settlement, bytes))]
    rest.push(call)
    return [2]
  })
  return { text: JSON.stringify(packed), bytes: bytes.join(), rest }
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

const nothing = new Uint8Array()

function packSettlement(settlement: Settlement, bytes: ByteWriter): PackedSettlement {
  const { outcome } = settlement
  if (!('result' in outcome) || outcome.result === undefined) return [settlement, null]
  const length = bytes.add(outcome.result)
  return [{ ...settlement, outcome: { ...outcome, result: nothing } }, length]
}

export function unpackCalls({ text, bytes, rest }: PackedCalls): Call[] {
  const reader = new ByteReader(bytes)
  const others = rest.values()
  return (JSON.parse(text) as PackedCall[]).map((packed): Call => {
    switch (packed[0]) {
      case 0:
        return { op: 'submit', args: [packed[1].map((task) => unpackTask(task, reader)), packed[2]] }
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

function unpackSettlement([settlement, length]: PackedSettlement, reader: ByteReader): Settlement {
  if (length === null) return settlement
  const outcome = { ...settlement.outcome, result: reader.take(length) } as AttemptOutcome
  return { ...settlement, outcome }
}

/** What a claim answers, on its way back. */
export type PackedClaim = { text: string; bytes: Uint8Array<ArrayBuffer>; steps: TaskStep[][] }

export function packClaim(tasks: readonly ClaimedTask[]): PackedClaim {
  const bytes = new ByteWriter()
  const steps: TaskStep[][] = []
  const packed = tasks.map((claimed) => {
    if (claimed.steps.length > 0) steps.push([...claimed.steps])
    return [claimed.task, bytes.add(claimed.payload), claimed.steps.length > 0]
  })
  return { text: JSON.stringify(packed), bytes: bytes.join(), steps }
}

export function unpackClaim({ text, bytes, steps }: PackedClaim): ClaimedTask[] {
  const reader = new ByteReader(bytes)
  const withSteps = steps.values()
  return (JSON.parse(text) as [TaskRow, number, boolean][]).map(([task, length, hasSteps]) => ({
    task,
    payload: reader.take(length),
    steps: hasSteps ? (withSteps.next().value ?? []) : [],
  }))
}

/** For what is cloned: a view of a larger buffer, such as all small ones of Node's, would take all of it along. */
export const ownBytes = (bytes: Uint8Array): Uint8Array =>
  bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()
