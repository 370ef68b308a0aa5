// Shows the service's own OpenAPI with Swagger UI; keys that are typed in are forgotten with the page.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
