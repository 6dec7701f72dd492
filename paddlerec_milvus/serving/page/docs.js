// Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
// Swagger UI over this service's own description.

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null, // that one would be another site's
});
