import { ApiError } from '../core/errors.ts'

/** The model instance complained about the request itself: its answer is the task's, and another attempt gets the same. */
export class AnswerRefused extends ApiError {
  /** The body, an error in OpenAI's shape. */
  readonly answer: Uint8Array
  /** The code that the instance gave, or ours where it gave none. */
  readonly upstreamCode: string

  constructor(status: number, answer: Buffer) {
    const { message, code } = readError(answer)
    super('invalid_request', { message: message ?? `The model instance answered ${status}.` })
    this.answer = answer
    this.upstreamCode = code ?? 'invalid_request'
  }
}

function readError(answer: Buffer): { message: string | null; code: string | null } {
  try {
    const { error } = JSON.parse(answer.toString('utf8')) as { error?: { message?: unknown; code?: unknown } }
    const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : null)
    return { message: text(error?.message), code: text(error?.code)?.slice(0, 100) ?? null }
  } catch {
    return { message: null, code: null }
  }
}
