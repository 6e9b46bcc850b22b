import type { Call } from './operations.ts'

/** About how many bytes a call holds in memory while it waits. */
export function sizeOf(call: Call): number {
  switch (call.op) {
    case 'submit':
      return call.args[0].reduce((sum, { payload, metadata }) => sum + taskBytes + payload.byteLength + (metadata?.length ?? 0), 0) // prettier-ignore
    case 'settle':
      return call.args[0].reduce((sum, { outcome }) => sum + taskBytes + ('result' in outcome ? (outcome.result?.byteLength ?? 0) : 0), 0) // prettier-ignore
    case 'saveStep':
      return taskBytes + call.args[2].result.byteLength
    case 'appendBlob':
      return call.args[1].reduce((sum, piece) => sum + piece.byteLength, taskBytes)
    case 'putCached':
      return taskBytes + call.args[0].value.byteLength
    case 'insertDocument':
    case 'updateDocument':
      return taskBytes + call.args[0].data.length
    case 'addUsage':
      return call.args[0].rows.length * taskBytes
    default:
      return taskBytes
  }
}

const taskBytes = 500
