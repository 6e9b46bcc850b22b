import type { FastifyError } from 'fastify'
import { ApiError, fail, toApiError } from '../core/errors.ts'

/** What Fastify and Node complain about, in the words of our own table. */
export function translateError(error: FastifyError): ApiError {
  if (error instanceof ApiError) return error
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return fail('body_too_large')
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return fail('unsupported_media_type', {
      message: 'Send the body as JSON, with `content-type: application/json`.',
    })
  }
  if (error.code === 'FST_ERR_BAD_URL') {
    return fail('invalid_request', { message: 'The path has a percent sign that no letter is encoded by.' })
  }
  if (error.code?.startsWith('FST_ERR_CTP_')) return fail('invalid_json', { message: error.message })
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return fail('invalid_request', { message: error.message })
  }
  return toApiError(error)
}
