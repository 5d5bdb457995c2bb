/** Stands in the bundle for `linkify-it`, which markdown-it loads and, with `linkify` off, never asks. */
export default class NoLinkify {}
