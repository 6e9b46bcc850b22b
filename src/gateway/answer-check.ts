import { isWholeObject } from '../core/json.ts'
import { readEventData, splitEvents } from '../core/sse.ts'

const errorKey = Buffer.from('"error"')
const errorEvent = Buffer.from('event: error')

/** Whether an answer of status 200 is whole and tells of no error: only then may others get it too. */
export function isWorthKeeping(body: Buffer, isStream: boolean): boolean {
  if (isStream) {
    return (
      !body.includes(errorEvent) &&
      splitEvents(body).every((event) => !event.includes(errorKey) || !tellsOfError(readEventData(event)))
    )
  }
  return isWholeObject(body) && (!body.includes(errorKey) || !tellsOfError(body.toString('utf8')))
}

function tellsOfError(text: string | null): boolean {
  if (text === null) return false
  try {
    const value = JSON.parse(text) as { error?: unknown; object?: unknown } | null
    return (value?.error ?? null) !== null || value?.object === 'error'
  } catch {
    return true
  }
}
