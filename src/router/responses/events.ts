import type { ResponseEvent } from './stream.ts'

const lastTypes = ['response.completed', 'response.incomplete', 'response.failed', 'error']

/** The event as it is kept: JSON that begins with its type, without a number. */
export const packEvent = ({ type, ...fields }: ResponseEvent): string => JSON.stringify({ type, ...fields })

/** The type of a packed event. */
export const typeOfEvent = (packed: string): string => /^\{"type":"([\w.]+)"/.exec(packed)?.[1] ?? 'error'

/** Whether nothing comes after an event of this type. */
export const isLastEvent = (type: string): boolean => lastTypes.includes(type)

/** A packed event as it goes to the client, with its place in the stream. */
export function formatPacked(packed: string, sequenceNumber: number): string {
  return `event: ${typeOfEvent(packed)}\ndata: {"sequence_number":${sequenceNumber},${packed.slice(1)}\n\n`
}
