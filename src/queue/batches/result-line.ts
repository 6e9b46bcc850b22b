import { errorTable, type ErrorCode } from '../../core/errors.ts'
import type { BatchResult } from '../../storage/task-store.ts'
import type { LineError } from './batch-line.ts'

/** What a line of the results says, beside its answer. */
type LineName = { batchId: string; line: number; customId: string | null }

/** Bytes of one line, in parts that are written one behind the other. */
export type LineParts = readonly Uint8Array[]

const lineEnd = Buffer.from('},"error":null}\n')

/** A line of the output file: the answer as the model gave it, byte for byte but for its line breaks. */
export function writeSuccess(name: LineName, taskId: string, body: Uint8Array): LineParts {
  const { id, custom_id } = describe(name)
  const head = JSON.stringify({ id, custom_id, response: { status_code: 200, request_id: taskId } })
  return [Buffer.from(`${head.slice(0, -2)},"body":`), joinLines(body), lineEnd]
}

/** A line of the error file for a task that ended badly: as the route would have answered, and as an error. */
export function writeFailure(name: LineName, task: BatchResult): LineParts {
  const error = task.error ?? { code: 'internal', message: errorTable.internal.meaning }
  const row = Object.hasOwn(errorTable, error.code)
    ? errorTable[error.code as ErrorCode]
    : errorTable.internal
  const body = { error: { message: error.message, type: row.type, param: null, code: error.code } }
  const response = { status_code: row.status, request_id: task.id, body }
  return [toLine({ ...describe(name), response, error: { ...error, param: null, line: name.line } })]
}

/** A line of the error file for what never was a request. */
export function writeError(name: LineName, { code, message, param }: LineError): LineParts {
  return [toLine({ ...describe(name), response: null, error: { code, message, param, line: name.line } })]
}

const describe = ({ batchId, line, customId }: LineName) => ({
  id: `batch_req_${batchId.slice(batchId.indexOf('_') + 1)}_${line}`,
  custom_id: customId,
})

const toLine = (value: object): Buffer => Buffer.from(`${JSON.stringify(value)}\n`)

/** A JSON text on one line. Strings hold no line breaks as they are: each is white space between two values. */
function joinLines(json: Uint8Array): Uint8Array {
  if (!json.includes(0x0a) && !json.includes(0x0d)) return json
  return json.map((byte) => (byte === 0x0a || byte === 0x0d ? 0x20 : byte))
}
