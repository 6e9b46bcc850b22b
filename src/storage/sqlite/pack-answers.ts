import type { Wake } from '../store.ts'
import type { SettleOutcome } from '../task-store.ts'
import type { Answer } from './group.ts'
import type { Call } from './operations.ts'
import { statusNumbers, toStatus } from './statuses.ts'
import type { StoredOutcome } from './submit.ts'

/** How answers travel back: what is frequent as one JSON text, in which most of them are one number. */
export type PackedAnswers = {
  /** JSON of one `PackedAnswer` an answer. */
  text: string
  /** The other answers, as they are. */
  rest: Answer[]
  /** JSON of the wakes; empty for none. */
  wakes: string
}

const lost = -1

/** A number is the state that a task has now. */
type PackedAnswer =
  | 0
  | [op: 1, outcomes: (number | Exclude<StoredOutcome, { kind: 'created' }>)[]]
  | [op: 2, outcomes: number[]]

export function packAnswers(
  calls: readonly Call[],
  answers: readonly Answer[],
  wakes: readonly Wake[],
): PackedAnswers {
  const rest: Answer[] = []
  const packed = answers.map((answer, index): PackedAnswer => {
    const op = calls[index]?.op
    if ('value' in answer && op === 'submit') return [1, (answer.value as StoredOutcome[]).map(packSubmitted)]
    if ('value' in answer && op === 'settle') return [2, (answer.value as SettleOutcome[]).map(packSettled)]
    rest.push(answer)
    return 0
  })
  return { text: JSON.stringify(packed), rest, wakes: wakes.length > 0 ? JSON.stringify(wakes) : '' }
}

const packSubmitted = (outcome: StoredOutcome) =>
  outcome.kind === 'created' ? statusNumbers[outcome.status] : outcome

const packSettled = (outcome: SettleOutcome) =>
  outcome.kind === 'settled' ? statusNumbers[outcome.status] : lost

export function unpackAnswers({ text, rest }: PackedAnswers): Answer[] {
  const others = rest.values()
  return (JSON.parse(text) as PackedAnswer[]).map((packed): Answer => {
    if (packed === 0) return others.next().value as Answer
    return { value: packed[0] === 1 ? packed[1].map(unpackSubmitted) : packed[1].map(unpackSettled) }
  })
}

const unpackSubmitted = (packed: number | StoredOutcome): StoredOutcome =>
  typeof packed === 'number'
    ? { kind: 'created', status: packed === statusNumbers.queued ? 'queued' : 'delayed' }
    : packed

const unpackSettled = (packed: number): SettleOutcome =>
  packed === lost ? { kind: 'lost' } : { kind: 'settled', status: toStatus(packed) }

export const unpackWakes = ({ wakes }: PackedAnswers): Wake[] =>
  wakes === '' ? [] : (JSON.parse(wakes) as Wake[])
