import { ApiError } from '../../core/errors.ts'
import { parseBody, type Fields } from '../../router/calls/body.ts'
import type { TaskEndpoint } from '../task.ts'

/** Why a line can't be run, as the error file says it. The codes are those of OpenAI's where it has one. */
export type LineError = { code: string; message: string; param: string | null }

type BatchLine =
  | { kind: 'good'; customId: string; body: Fields }
  /** `customId` is null where none could be read. */
  | { kind: 'bad'; customId: string | null; error: LineError }

const customIdCharsMax = 512

/** Reads a line of a batch's input: `{custom_id, method, url, body}`. Names the first thing that is wrong with it. */
export function readBatchLine(
  bytes: Buffer,
  rules: { endpoint: TaskEndpoint; jsonDepthMax: number },
): BatchLine {
  let line: Fields
  try {
    // The body may be as deep as that of a request of its own, and lies one level down.
    line = parseBody(bytes, rules.jsonDepthMax + 1)
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    return bad(null, 'invalid_json_line', error.message.replace(/^The body/, 'The line'), null)
  }
  const customId = line['custom_id']
  if (customId === undefined)
    return bad(null, 'missing_required_parameter', '`custom_id` is missing.', 'custom_id')
  if (typeof customId !== 'string' || customId === '' || customId.length > customIdCharsMax) {
    const message = `\`custom_id\` must be a text of 1 to ${customIdCharsMax} characters.`
    return bad(null, 'invalid_custom_id', message, 'custom_id')
  }
  const problem = findProblem(line, rules.endpoint)
  if (problem) return { kind: 'bad', customId, error: problem }
  return { kind: 'good', customId, body: line['body'] as Fields }
}

function findProblem(line: Fields, endpoint: TaskEndpoint): LineError | null {
  for (const name of ['method', 'url', 'body']) {
    if (line[name] === undefined)
      return describe('missing_required_parameter', `\`${name}\` is missing.`, name)
  }
  const { method, url, body } = line
  if (method !== 'POST') return describe('invalid_method', '`method` must be POST.', 'method')
  if (url !== endpoint) {
    const given = typeof url === 'string' ? `, and not \`${url.slice(0, 100)}\`` : ''
    return describe('invalid_url', `\`url\` must be \`${endpoint}\`, as the batch says${given}.`, 'url')
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    return describe('invalid_body', '`body` must be an object: the body of the request.', 'body')
  }
  if ((body as Fields)['stream'] === true) {
    return describe(
      'invalid_body',
      'A line of a batch is never streamed; leave `body.stream` out.',
      'body.stream',
    )
  }
  return null
}

const describe = (code: string, message: string, param: string | null): LineError => ({
  code,
  message,
  param,
})

function bad(customId: string | null, code: string, message: string, param: string | null): BatchLine {
  return { kind: 'bad', customId, error: describe(code, message, param) }
}
